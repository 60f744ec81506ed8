"""From a graph to blocks: linearize at a point, then eliminate vertex after vertex."""
