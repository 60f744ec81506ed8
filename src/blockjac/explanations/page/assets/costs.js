"use strict";
// A model of what an elimination multiplies, on structure alone. tests/support/page_model has the same
// function by function, which the tests compare with the planner's count.
// A term is {c: coefficient, f: factors, i: indices}, a factor {a: array, m: is a mask, l: labels},
// an index {o: offset, s: [[label, stride]], k: array of a lookup or 0, q: labels of the lookup}.

const unique = labels => [...new Set(labels)];
const indexLabels = index => unique([...index.s.map(pair => pair[0]), ...index.q]);
const isConstant = index => !index.s.length && !index.k;
const single = index => index.s.length === 1 && !index.k ? index.s[0] : null;
const within = (part, whole) => part.every(label => whole.includes(label));
const labelsOf = term => unique([
  ...term.i.flatMap(indexLabels), ...term.f.flatMap(factor => factor.l)]);
const relabeled = (term, names) => ({
  c: term.c,
  f: term.f.map(factor => ({a: factor.a, m: factor.m, l: factor.l.map(l => names.get(l))})),
  i: term.i.map(index => ({
    o: index.o, s: index.s.map(([l, t]) => [names.get(l), t]), k: index.k,
    q: index.q.map(l => names.get(l))})),
});
const sameIndex = (x, y) => x.o === y.o && x.k === y.k && x.s.length === y.s.length &&
  x.q.length === y.q.length && x.q.every((l, n) => l === y.q[n]) &&
  x.s.every((pair, n) => pair[0] === y.s[n][0] && pair[1] === y.s[n][1]);
const product = numbers => numbers.reduce((x, y) => x * y, 1);
const MOST_TERMS = 16, FEW = 5;

class Costs {
  constructor(arrays, weights) {
    this.multiplications = 0; this.sizes = []; this.arrays = arrays; this.weights = weights;
  }
  label(size) { this.sizes.push(size); return this.sizes.length - 1; }
  array() { return ++this.arrays; }
  numel(labels) { let n = 1; for (const label of labels) n *= this.sizes[label]; return n; }

  signature([out, wrt, sizes, terms], arrays) {
    const names = sizes.map(size => this.label(size)), name = l => names[l];
    const own = a => a && arrays ? arrays[a - 1] : a;
    return {out, wrt, terms: terms.map(([c, factors, indices]) => ({
      c,
      f: factors.map(([a, m, l]) => ({a: own(a), m: !!m, l: l.map(name)})),
      i: indices.map(([o, s, k, q]) => ({
        o, s: s.map(([l, t]) => [name(l), t]), k: own(k), q: q.map(name)})),
    }))};
  }
  identity(shape) {
    const axes = shape.map(size => ({
      o: 0, s: size === 1 ? [] : [[this.label(size), 1]], k: 0, q: []}));
    return {out: shape, wrt: shape, terms: [{c: 1, f: [], i: [...axes, ...axes]}]};
  }

  star(left, right) {
    const terms = [];
    for (const first of left.terms) for (const second of right.terms) {
      const term = this.product(first, second, left, right);
      if (term) terms.push(term);
    }
    return this.summed(left.out, right.wrt, terms);
  }
  add(left, right) { return this.summed(left.out, left.wrt, [...left.terms, ...right.terms]); }
  write(signature) {
    for (const term of signature.terms) if (term.f.length) this.multiplied(term.f, term.c);
  }

  product(left, right, leftEdge, rightEdge) {
    const fresh = new Map(labelsOf(right).map(l => [l, this.label(this.sizes[l])]));
    right = relabeled(right, fresh);
    const middle = leftEdge.out.length, inner = rightEdge.out.length;
    const meeting = new Meeting(
      this, [...left.f, ...right.f], [...left.i.slice(0, middle), ...right.i.slice(inner)],
      leftEdge.wrt.map((size, n) => [left.i[middle + n], right.i[n], size]),
      unique([...labelsOf(left), ...labelsOf(right)]));
    if (!meeting.solve()) return null;
    return this.answered(meeting.factors, meeting.indices, meeting.labels, left.c * right.c);
  }
  answered(factors, indices, labels, c) {
    const used = new Set(indices.flatMap(indexLabels));
    const carried = new Set(factors.flatMap(factor => factor.l));
    for (const label of labels)
      if (!used.has(label) && !carried.has(label)) c *= this.sizes[label];
    const summed = unique([...labels, ...carried]).filter(l => carried.has(l) && !used.has(l));
    if (summed.length) {
      [factors, c] = this.absorbed(factors, summed, c);
      factors = this.contracted(factors, summed);
    }
    [factors, c] = this.merged(factors, c);
    return {c, f: factors, i: indices};
  }
  multiplied(factors, c = 1) {
    if (factors.length === 1 && c === 1) return factors[0];
    const numbers = factors.filter(factor => !factor.m)
      .sort((x, y) => this.numel(x.l) - this.numel(y.l));
    let reached = [];
    numbers.forEach((factor, n) => {
      reached = unique([...reached, ...factor.l]);
      this.multiplications += n ? this.numel(reached) : 0;
    });
    if (numbers.length && Math.abs(c) !== 1) this.multiplications += this.numel(numbers[0].l);
    return {a: this.array(), m: !numbers.length && c === 1, l: unique(factors.flatMap(f => f.l))};
  }
  absorbed(factors, summed, c) {
    const touches = labels => labels.some(label => summed.includes(label));
    const involved = factors.map(factor => touches(factor.l));
    const numbers = [...factors.keys()].filter(n => involved[n] && !factors[n].m);
    if (numbers.length < 2) return [factors, c];
    const carried = unique(factors.flatMap((factor, n) => involved[n] ? factor.l : []));
    const result = this.numel(carried.filter(label => !summed.includes(label)));
    const size = factors.map(factor => this.numel(factor.l));
    const least = places => places.reduce((x, y) => size[y] < size[x] ? y : x);
    const smallest = least(numbers), gains = new Map(), left = [];
    factors.forEach((factor, n) => {
      const homes = involved[n] ? [] : numbers.filter(home => within(factor.l, factors[home].l));
      const home = homes.length ? least(homes) : null;
      if (home === null || size[home] > result || (!factor.l.length && factor.m)) left.push(n);
      else gains.set(home, [...(gains.get(home) || []), factor]);
    });
    const scaled = Math.abs(c) !== 1 && size[smallest] <= result;
    if (scaled && !gains.has(smallest)) gains.set(smallest, []);
    const products = left.map(n => gains.has(n)
      ? this.multiplied([factors[n], ...gains.get(n)], scaled && n === smallest ? c : 1)
      : factors[n]);
    return [products, scaled ? 1 : c];
  }
  contracted(factors, summed) {
    const reach = factor => factor.l.filter(label => summed.includes(label));
    const result = factors.filter(factor => !reach(factor).length);
    let pending = factors.filter(factor => reach(factor).length);
    while (pending.length) {
      const group = [pending.shift()];
      let own;
      for (;;) {
        own = unique(group.flatMap(reach));
        const joins = factor => factor.l.some(label => own.includes(label));
        const joining = pending.filter(joins);
        if (!joining.length) break;
        pending = pending.filter(factor => !joins(factor));
        group.push(...joining);
      }
      result.push(this.sumOut(group, summed.filter(label => own.includes(label))));
    }
    return result;
  }
  sumOut(group, summed) {
    let pending = group.filter(factor => !factor.m).map(factor => factor.l);
    for (const mask of group.filter(factor => factor.m))
      if (!pending.some(labels => within(mask.l, labels))) pending.push(mask.l);
    while (pending.length > 1) {
      const [first, second] = this.nextPair(pending, summed)[1];
      const rest = pending.filter((_, n) => n !== first && n !== second);
      const needed = new Set(rest.flat());
      const now = new Set(summed.filter(label => !needed.has(label)));
      let left = pending[first], right = pending[second];
      left = left.filter(label => !now.has(label) || right.includes(label));
      right = right.filter(label => !now.has(label) || left.includes(label));
      const union = unique([...left, ...right]);
      this.multiplications += this.numel(union);
      pending = [...rest, union.filter(label => !now.has(label))];
    }
    return {a: this.array(), m: false, l: pending[0].filter(label => !summed.includes(label))};
  }
  nextPair(carried, summed) {
    let best = Infinity, pair = [0, 1];
    for (let first = 0; first < carried.length; first++)
      for (let second = first + 1; second < carried.length; second++) {
        const rest = carried.filter((_, n) => n !== first && n !== second);
        const needed = new Set(rest.flat());
        const union = unique([...carried[first], ...carried[second]]);
        const kept = union.filter(label => !summed.includes(label) || needed.has(label));
        const operations = this.numel(union) * (kept.length === union.length ? 1 : 2);
        const entries = this.numel(carried[first]) + this.numel(carried[second]) + this.numel(kept);
        let time = operations * this.weights[0] + entries * this.weights[1];
        if (rest.length && time < best && carried.length <= FEW)
          time += this.nextPair([...rest, kept], summed)[0];
        if (time < best) { best = time; pair = [first, second]; }
      }
    return [best, pair];
  }
  merged(factors, c) {
    const groups = new Map();
    for (const factor of factors) {
      const key = [...factor.l].sort((x, y) => x - y).join(",") + (factor.m ? "m" : "");
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(factor);
    }
    const result = [];
    for (const group of groups.values()) {
      if (!group[0].m && (group.length > 1 || !group[0].l.length)) {
        result.push(this.multiplied(group, c));
        c = 1;
      } else result.push(this.multiplied(group));
    }
    return [result, c];
  }

  summed(out, wrt, terms) {
    let kept = [];
    for (const term of terms) {
      let joint = null, place = 0;
      for (; place < kept.length && !joint; place++) joint = this.joined(kept[place], term);
      if (joint) kept[place - 1] = joint; else kept.push(term);
    }
    kept = kept.filter(term => term.c !== 0);
    const signature = {out, wrt, terms: kept};
    return kept.length > 1 ? this.inOne(signature) : signature;
  }
  joined(left, right) {
    const names = correspondence(left.i, right.i, this.sizes);
    if (!names || labelsOf(right).some(label => !names.has(label))) return null;
    const factors = relabeled(right, names).f;
    const same = (x, y) => x.a === y.a && x.m === y.m && x.l.length === y.l.length &&
      x.l.every((label, n) => label === y.l[n]);
    const shared = left.f.filter(factor => factors.some(twin => same(factor, twin)));
    const isShared = factor => shared.some(twin => same(factor, twin));
    const own = left.f.filter(factor => !isShared(factor));
    const other = factors.filter(factor => !isShared(factor));
    if (!own.length && !other.length) return {c: left.c + right.c, f: left.f, i: left.i};
    const both = [...own, ...other], union = unique(both.flatMap(factor => factor.l));
    if (this.numel(union) > both.reduce((n, part) => n + this.numel(part.l), 0)) return null;
    let c = 1, scales = [left.c, right.c];
    if (own.length && other.length && left.c === right.c) { c = left.c; scales = [1, 1]; }
    if (own.length) this.multiplied(own, scales[0]);
    if (other.length) this.multiplied(other, scales[1]);
    return {c, f: [...shared, {a: this.array(), m: false, l: union}], i: left.i};
  }
  inOne(signature) {
    const shape = [...signature.out, ...signature.wrt], rank = signature.out.length, deltas = [];
    for (let i = 0; i < rank; i++) for (let j = rank; j < shape.length; j++)
      if (signature.terms.every(term => this.hasDelta(term, i, j, shape))) deltas.push([i, j]);
    const entries = product(shape) / product(deltas.map(([i]) => shape[i]));
    const arrays = new Map();
    for (const term of signature.terms) for (const f of term.f) arrays.set(f.a, this.numel(f.l));
    const held = [...arrays.values()].reduce((x, y) => x + y, 0);
    if (entries > held && signature.terms.length <= MOST_TERMS) return signature;
    this.write(signature);
    const labels = shape.map(size => size === 1 ? -1 : this.label(size));
    for (const [i, j] of deltas) labels[j] = labels[i];
    const i = labels.map(label => ({o: 0, s: label < 0 ? [] : [[label, 1]], k: 0, q: []}));
    const l = unique(labels.filter(label => label >= 0));
    const term = {c: 1, f: [{a: this.array(), m: false, l}], i};
    return {out: signature.out, wrt: signature.wrt, terms: [term]};
  }
  hasDelta(term, i, j, shape) {
    const first = term.i[i], own = single(first);
    if (shape[i] === 1 || shape[i] !== shape[j] || !sameIndex(first, term.i[j])) return false;
    if (!own || first.o || own[1] !== 1 || this.sizes[own[0]] !== shape[i]) return false;
    return term.i.filter(index => indexLabels(index).includes(own[0])).length === 2;
  }
}

function correspondence(left, right, sizes) {
  const names = new Map(), sorted = index => [...index.s].sort((x, y) => x[1] - y[1]);
  for (let n = 0; n < left.length; n++) {
    const x = left[n], y = right[n];
    if (x.o !== y.o || x.k !== y.k || x.s.length !== y.s.length || x.q.length !== y.q.length)
      return null;
    const mine = sorted(x), theirs = sorted(y);
    if (mine.some((pair, k) => pair[1] !== theirs[k][1])) return null;
    const pairs = [...mine.map((pair, k) => [theirs[k][0], pair[0]]), ...y.q.map((l, k) => [l, x.q[k]])];
    for (const [old, name] of pairs) {
      if (!names.has(old)) names.set(old, name);
      if (sizes[old] !== sizes[name] || names.get(old) !== name) return null;
    }
  }
  return new Set(names.values()).size === names.size ? names : null;
}

class Meeting {
  constructor(counter, factors, indices, pairs, labels) {
    Object.assign(this, {counter, factors, indices, pairs, labels});
  }
  solve() {
    while (this.pairs.length) if (!this.meet(...this.pairs.shift())) return false;
    return true;
  }
  meet(left, right, size) {
    if (isConstant(left) && isConstant(right)) return left.o === right.o;
    if (sameIndex(left, right)) return true;
    const first = single(left), second = single(right);
    if (first && isConstant(right)) return this.fix(first, right.o - left.o);
    if (second && isConstant(left)) return this.fix(second, left.o - right.o);
    if (first && second && first[0] !== second[0]) {
      if (Math.abs(first[1]) === 1) return this.follow(first, second, right.o - left.o);
      if (Math.abs(second[1]) === 1) return this.follow(second, first, left.o - right.o);
    }
    if (this.isWhole(left, size) && first && !indexLabels(right).includes(first[0]))
      this.substitute(first[0], right);
    else if (this.isWhole(right, size) && second && !indexLabels(left).includes(second[0]))
      this.substitute(second[0], left);
    else if (!this.byDigits(left, right)) this.substitute(this.written(left, size), right);
    return true;
  }
  isWhole(index, size) {
    const own = single(index);
    return !!own && !index.o && own[1] === 1 && this.counter.sizes[own[0]] === size;
  }
  fix([label, stride], value) {
    const place = value / stride;
    if (!Number.isInteger(place) || place < 0 || place >= this.counter.sizes[label]) return false;
    this.substitute(label, {o: place, s: [], k: 0, q: []});
    return true;
  }
  follow([label, sign], [other, stride], offset) {
    const sizes = this.counter.sizes, values = [];
    for (let own = 0; own < sizes[other]; own++) {
      const place = sign * (stride * own + offset);
      if (place >= 0 && place < sizes[label]) values.push(own);
    }
    if (!values.length) return false;
    let strides = [[other, sign * stride]];
    if (values.length < sizes[other]) {
      const part = this.counter.label(values.length), is = values.length > 1;
      this.labels.push(part);
      this.substitute(other, {o: values[0], s: is ? [[part, 1]] : [], k: 0, q: []});
      offset += stride * values[0];
      strides = is ? [[part, sign * stride]] : [];
    }
    this.substitute(label, {o: sign * offset, s: strides, k: 0, q: []});
    return true;
  }
  byDigits(left, right) {
    if (left.k || right.k || left.o !== right.o || left.s.length !== right.s.length) return false;
    const sizes = this.counter.sizes, sorted = own => [...own.s].sort((x, y) => x[1] - y[1]);
    const mine = sorted(left), theirs = sorted(right);
    if (mine.some((pair, n) => pair[1] !== theirs[n][1] || sizes[pair[0]] !== sizes[theirs[n][0]]))
      return false;
    if (indexLabels(left).some(label => indexLabels(right).includes(label))) return false;
    let weight = 1;
    for (const [label, stride] of mine) {
      if (stride !== weight) return false;
      weight *= sizes[label];
    }
    const plain = label => ({o: 0, s: [[label, 1]], k: 0, q: []});
    mine.forEach(([label], n) =>
      this.pairs.unshift([plain(label), plain(theirs[n][0]), sizes[label]]));
    return true;
  }
  written(index, size) {
    const dense = this.counter.label(size), own = indexLabels(index);
    const around = [...this.indices, ...this.pairs.flatMap(pair => pair.slice(0, 2))];
    const elsewhere = new Set(around.flatMap(indexLabels));
    const gone = own.filter(label => !elsewhere.has(label));
    const shared = own.filter(label => elsewhere.has(label));
    const touches = factor => factor.l.some(label => gone.includes(label));
    const involved = this.factors.filter(touches);
    const rest = this.factors.filter(factor => !touches(factor));
    if (involved.length) this.counter.multiplied(involved);
    const left = involved.flatMap(factor => factor.l.filter(label => !gone.includes(label)));
    const l = unique([...left, ...shared, dense]);
    this.factors = [...rest, {a: this.counter.array(), m: !involved.length, l}];
    this.labels = [...this.labels.filter(label => !gone.includes(label)), dense];
    return dense;
  }
  substitute(label, index) {
    const own = single(index), isName = !!own && own[1] === 1 && !index.o;
    const put = labels => unique(labels.flatMap(l => l === label ? indexLabels(index) : [l]));
    this.factors = this.factors.map(factor => !factor.l.includes(label) ? factor : {
      a: isName ? factor.a : this.counter.array(), m: factor.m, l: put(factor.l)});
    const replaced = known => this.replaced(known, label, index, isName, put);
    this.indices = this.indices.map(replaced);
    this.pairs = this.pairs.map(([x, y, size]) => [replaced(x), replaced(y), size]);
    this.labels = this.labels.filter(known => known !== label);
  }
  replaced(own, label, index, isName, put) {
    if (!indexLabels(own).includes(label)) return own;
    const stride = (own.s.find(pair => pair[0] === label) || [0, 0])[1];
    const total = new Map(own.s.filter(pair => pair[0] !== label));
    if (stride) for (const [l, t] of index.s) total.set(l, (total.get(l) || 0) + stride * t);
    let k = own.k, q = own.q;
    if (q.includes(label)) { q = put(q); k = isName ? k : this.counter.array(); }
    if (stride && index.k) {
      k = !k && stride === 1 ? index.k : this.counter.array();
      q = unique([...q, ...index.q]);
    }
    return {o: own.o + stride * index.o, s: [...total].filter(pair => pair[1]), k, q};
  }
}

class Elimination {
  // game: {arrays, weights, inner, edges: [[tail, head, structure or null]], kinds}
  constructor(game) {
    this.costs = new Costs(game.arrays, game.weights);
    this.leaving = new Map(); this.entering = new Map();
    for (const [tail, head, kind, arrays] of game.edges)
      this.put(tail, head, kind < 0 ? null : this.costs.signature(game.kinds[kind], arrays));
  }
  put(tail, head, signature) {
    if (!this.leaving.has(tail)) this.leaving.set(tail, new Map());
    if (!this.entering.has(head)) this.entering.set(head, new Set());
    this.leaving.get(tail).set(head, signature);
    this.entering.get(head).add(tail);
  }
  heads(vertex) { return this.leaving.get(vertex) || new Map(); }
  tails(vertex) { return this.entering.get(vertex) || new Set(); }
  eliminate(vertex) {
    const before = this.costs.multiplications, products = [];
    for (const [head, left] of this.heads(vertex)) for (const tail of this.tails(vertex))
      products.push([tail, head, this.star(left, this.leaving.get(tail).get(vertex))]);
    for (const tail of this.tails(vertex)) this.leaving.get(tail).delete(vertex);
    for (const head of this.heads(vertex).keys()) this.entering.get(head).delete(vertex);
    this.entering.delete(vertex); this.leaving.delete(vertex);
    for (let [tail, head, edge] of products) {
      if (edge && !edge.terms.length) continue;
      if (this.heads(tail).has(head)) edge = this.sum(this.heads(tail).get(head), edge);
      this.put(tail, head, edge);
    }
    return this.costs.multiplications - before;
  }
  price(vertex) {
    const before = this.costs.multiplications;
    for (const left of this.heads(vertex).values()) for (const tail of this.tails(vertex))
      this.star(left, this.leaving.get(tail).get(vertex));
    const spent = this.costs.multiplications - before;
    this.costs.multiplications = before;
    return spent;
  }
  write() {
    const before = this.costs.multiplications;
    for (const heads of this.leaving.values()) for (const own of heads.values())
      if (own) this.costs.write(own);
    return this.costs.multiplications - before;
  }
  star(left, right) {
    if (!left) return right;
    return right ? this.costs.star(left, right) : left;
  }
  sum(left, right) {
    const identity = this.costs.identity((left || right).out);
    return this.costs.add(left || identity, right || identity);
  }
}

function cheapestOrder(game) {
  const elimination = new Elimination(game), prices = new Map(), order = [];
  const left = new Set([...game.inner].reverse());
  while (left.size) {
    let best = null;
    for (const vertex of left) {
      if (!prices.has(vertex)) prices.set(vertex, elimination.price(vertex));
      if (best === null || prices.get(vertex) < prices.get(best)) best = vertex;
    }
    const beside = [...elimination.heads(best).keys(), ...elimination.tails(best)];
    elimination.eliminate(best);
    for (const vertex of [best, ...beside]) prices.delete(vertex);
    left.delete(best);
    order.push(best);
  }
  return order;
}

function spentOn(game, order) {
  const elimination = new Elimination(game);
  return [...order.map(vertex => elimination.eliminate(vertex)), elimination.write()];
}
