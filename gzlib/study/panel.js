// The planner's arithmetic, the same as gzlib.fitting.labels_needed and compare_options, and its page.

// The place of a value among ascending ones: an index k >= 1, and how far it lies from the one before towards it, 0 to 1.
function place(value, among) {
  const found = among.findIndex((other) => other >= value), k = found < 0 ? among.length - 1 : Math.max(found, 1);
  return [k, Math.min(Math.max((value - among[k - 1]) / (among[k] - among[k - 1]), 0), 1)];
}

// Labels that reach a target (median, ends of the interval) if it can be reached at all, and the chance that it can.
function arrive(option, target, most) {
  if (option.arrivals === null) return { labels: [NaN, NaN, NaN], chance: NaN };
  const within = (size) => (size <= most ? size : Infinity);
  const mix = (values, k, share) => (values[k] === null ? NaN : (1 - share) * values[k - 1] + share * values[k]);
  const best = Math.min(...option.points.map((point) => point[1]));
  if (best <= target) {
    const { falls, sizes } = option.reached, [k, share] = place(-Math.log(target), falls);
    return { labels: sizes.map((values) => within(Math.exp(mix(values, k, share)))), chance: 1 };
  }
  const { drops, leads, chance } = option.arrivals, drop = Math.log(Math.log(best / target));
  if (drop > drops.at(-1)) return { labels: [Infinity, Infinity, Infinity], chance: 0 };
  const [k, share] = place(drop, drops), between = (values) => mix(values, k, share);
  const size = (values) => option.points.at(-1)[0] * Math.exp(Math.min(Math.exp(between(values)), 700));
  const labels = leads.map((values) => within(size(values)));
  if (between(chance) < 0.5) labels[0] = Infinity;
  return { labels, chance: between(chance) };
}

function plan(data, { target, label_price, hour_price, owned }) {
  const rows = data.options.map((option) => {
    const { labels, chance } = arrive(option, target, data.sizes.at(-1));
    const row = { name: option.name, chance };
    for (const [i, suffix] of ["", "_low", "_high"].entries()) {
      const hours = Number.isFinite(labels[i]) ? option.hours_per_label * labels[i] : 0;
      row[`labels${suffix}`] = labels[i];
      row[`cost${suffix}`] = Math.max(labels[i] - owned, 0) * label_price + hours * hour_price;
    }
    return row;
  });
  const rank = (row) => (Number.isFinite(row.cost) ? row.cost : Infinity);
  return rows.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
}

function page(root, data) {
  const field = (name) => root.querySelector(`[name="${name}"]`);
  const number = (name) => Math.max(Number(field(name).value) || 0, 0);
  const round = (value) => (value >= 1000 ? Number(value.toPrecision(3)) : Math.round(value)).toLocaleString("en");
  const count = (value) => (Number.isFinite(value) ? round(value) : "out of reach");
  const likely = (chance) => (Number.isNaN(chance) ? "–" : chance > 0.99 ? "over 99\u00a0%" : `${Math.round(100 * chance)}\u00a0%`);
  const range = (low, high) => (Number.isFinite(low) ? `${round(low)} to ${Number.isFinite(high) ? round(high) : "no limit"}` : "out of reach");
  const everything = data.options.flatMap((o) => [...o.median.slice(o.last), ...o.points.map((p) => p[1])]).filter((v) => v !== null);
  const most = Math.max(...everything), least = Math.min(...everything);
  const slideToLoss = (s) => most * (least / most) ** (s / 1000);
  const lossToSlide = (loss) => (1000 * Math.log(loss / most)) / Math.log(least / most);

  const arrives = (option, target) => [...option.points.map((p) => p[1]), ...option.median.slice(option.last)].some((v) => v !== null && v <= target);

  function told(rows, { target, owned }) {
    const best = rows[0], free = rows.filter((row) => row.cost === 0);
    if (free.length) {
      const names = free.map((row) => `${row.name} (${round(row.labels)} labels)`).join(", ");
      return free.every((row) => row.labels <= owned) ? `Reached already, with the labels owned, by ${names}.` : `At these prices it costs nothing to reach the target with ${names}.`;
    }
    if (!Number.isFinite(best.cost)) return `No encoder is likely to reach ${target} with up to ${round(data.sizes.at(-1))} labels.`;
    return `Cheapest: ${best.name} with ${round(best.labels)} labels (${data.level} interval: ${range(best.labels_low, best.labels_high)}), if the target can be reached at all (chance: ${likely(best.chance)}), cost ${round(best.cost)}.`;
  }

  function draw(option, needed, target) {
    const svg = root.querySelector("svg"), width = Math.min(Math.max(svg.clientWidth || 640, 300), 640); // letters keep their size on a phone
    svg.setAttribute("viewBox", `0 0 ${width} 320`);
    const [left, right, top, bottom] = [56, width - 28, 12, 274];
    const median = option.median.slice(option.last);
    const values = [...median, ...option.lower.slice(option.last), ...option.upper.slice(option.last), ...option.points.map((p) => p[1]), target].filter((v) => v > 0);
    const [low, high] = [Math.min(...values) * 0.98, Math.max(...values) * 1.02];
    const x = (n) => left + ((right - left) * Math.log(n / data.sizes[0])) / Math.log(data.sizes.at(-1) / data.sizes[0]);
    const y = (loss) => bottom - ((bottom - top) * Math.log(loss / low)) / Math.log(high / low);
    const path = (pairs) => pairs.map(([n, v]) => `${x(n).toFixed(1)},${y(v).toFixed(1)}`);
    const ahead = (curve) => path(curve.slice(option.last).map((v, i) => [data.sizes[option.last + i], v]));
    const ticks = [];
    for (let n = 10 ** Math.ceil(Math.log10(data.sizes[0])); n <= data.sizes.at(-1); n *= 10) ticks.push(n);
    const every = Math.ceil((ticks.length * 62) / (right - left)); // numbers that don't touch on a phone
    const parts = ticks.map((n, i) => `<line class="grid" x1="${x(n)}" x2="${x(n)}" y1="${top}" y2="${bottom}"/>${(ticks.length - 1 - i) % every ? "" : `<text x="${x(n)}" y="${bottom + 18}" text-anchor="middle">${n.toLocaleString("en")}</text>`}`);
    const losses = marks(low, high), texts = markTexts(losses);
    parts.push(...losses.map((v, i) => `<line class="grid" x1="${left}" x2="${right}" y1="${y(v)}" y2="${y(v)}"/><text x="${left - 6}" y="${y(v) + 4}" text-anchor="end">${texts[i]}</text>`));
    if (median.every((v) => v !== null)) {
      parts.push(`<polygon class="band" points="${[...ahead(option.lower), ...ahead(option.upper).reverse()].join(" ")}"/>`);
      parts.push(`<polyline class="median" points="${ahead(option.median).join(" ")}"/>`);
    }
    parts.push(`<polyline class="measured" points="${path(option.points).join(" ")}"/>`);
    parts.push(`<line class="target" x1="${left}" x2="${right}" y1="${y(target)}" y2="${y(target)}"/><text x="${left + 6}" y="${y(target) - 5}">target</text>`);
    // From the target down to its size; where the line does not come to the target, a mark on the axis alone.
    if (Number.isFinite(needed)) parts.push(`<line class="needed" x1="${x(needed)}" x2="${x(needed)}" y1="${arrives(option, target) ? y(target) : bottom - 12}" y2="${bottom}"/>`);
    parts.push(...option.points.map(([n, v]) => `<circle class="points" cx="${x(n)}" cy="${y(v)}" r="4"/>`));
    parts.push(`<text x="${(left + right) / 2}" y="312" text-anchor="middle">training galaxies (labels)</text>`);
    parts.push(`<text transform="translate(12 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">test loss [${data.unit}]</text>`);
    svg.innerHTML = parts.join("");
  }

  function update() {
    const choice = { target: number("target"), label_price: number("label_price"), hour_price: number("hour_price"), owned: number("owned") };
    const answer = root.querySelector(".answer");
    if (!choice.target) {
      answer.textContent = "Give a target loss above zero.";
      return;
    }
    field("slide").value = lossToSlide(choice.target);
    const rows = plan(data, choice), shown = field("encoder").value;
    const option = data.options.find((o) => o.name === shown), row = rows.find((one) => one.name === shown);
    root.querySelector("tbody").innerHTML = rows.map((one) => `<tr${one.name === shown ? ' class="chosen"' : ""} data-labels="${one.labels}" data-cost="${one.cost}"><th scope="row">${one.name}</th><td>${count(one.labels)}</td><td>${range(one.labels_low, one.labels_high)}</td><td>${likely(one.chance)}</td><td>${count(one.cost)}</td><td>${range(one.cost_low, one.cost_high)}</td></tr>`).join("");
    const short = Number.isFinite(row.labels) && !arrives(option, choice.target)
      ? ` The line of ${shown} stays above the target, which may be out of its reach (chance that it is not: ${likely(row.chance)}); the mark on the axis shows the labels needed if it is not.`
      : "";
    answer.textContent = told(rows, choice) + short;
    draw(option, row.labels, choice.target);
  }

  for (const option of data.options) field("encoder").add(new Option(option.name, option.name));
  for (const [name, value] of Object.entries(data.choice)) field(name).value = value;
  field("encoder").value = data.shown;
  field("slide").addEventListener("input", () => {
    field("target").value = slideToLoss(Number(field("slide").value)).toPrecision(5);
    update();
  });
  for (const name of ["target", "encoder", "label_price", "hour_price", "owned"]) field(name).addEventListener("input", update);
  addEventListener("resize", update);
  root.querySelector("fieldset").hidden = false;
  root.querySelector("svg").removeAttribute("hidden");
  update();
}
