"""What the page's `costs.js` computes, in Python, for tests against the planner and the browser."""
