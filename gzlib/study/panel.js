// The planner's arithmetic, the same as gzlib.fitting.labels_needed and compare_options, and its page.

function firstBelow(sizes, losses, target) {
  if (losses.some((value) => value === null)) return NaN;
  const i = losses.findIndex((value) => value <= target);
  if (i < 0) return Infinity;
  if (i === 0) return sizes[0];
  const share = Math.log(losses[i - 1] / target) / Math.log(losses[i - 1] / losses[i]);
  return sizes[i - 1] * (sizes[i] / sizes[i - 1]) ** share;
}

// Labels that reach a target (median, ends of the interval) if it can be reached at all, and the chance that it can.
function arrive(option, target, most) {
  if (option.arrivals === null) return { labels: [NaN, NaN, NaN], chance: NaN };
  const losses = option.points.map((point) => point[1]), best = Math.min(...losses);
  if (best <= target) {
    const reached = firstBelow(option.points.map((point) => point[0]), losses, target);
    return { labels: [reached, reached, reached], chance: 1 };
  }
  const { drops, leads, chance } = option.arrivals, drop = Math.log(Math.log(best / target));
  const k = Math.min(Math.max(drops.findIndex((value) => value >= drop), 1), drops.length - 1);
  if (drop > drops.at(-1)) return { labels: [Infinity, Infinity, Infinity], chance: 0 };
  const share = Math.max((drop - drops[k - 1]) / (drops[k] - drops[k - 1]), 0);
  const between = (values) => (values[k] === null ? NaN : (1 - share) * values[k - 1] + share * values[k]);
  const size = (values) => option.points.at(-1)[0] * Math.exp(Math.min(Math.exp(between(values)), 700));
  const labels = leads.map((values) => (size(values) <= most ? size(values) : Infinity));
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
  const likely = (chance) => (Number.isNaN(chance) ? "–" : chance > 0.99 ? "over 99 %" : `${Math.round(100 * chance)} %`);
  const range = (low, high) => (Number.isFinite(low) ? `${round(low)} to ${Number.isFinite(high) ? round(high) : "no limit"}` : "out of reach");
  const everything = data.options.flatMap((o) => [...o.median, ...o.points.map((p) => p[1])]).filter((v) => v !== null);
  const most = Math.max(...everything), least = Math.min(...everything);
  const slideToLoss = (s) => most * (least / most) ** (s / 1000);
  const lossToSlide = (loss) => (1000 * Math.log(loss / most)) / Math.log(least / most);

  function draw(option, needed, target) {
    const svg = root.querySelector("svg"), width = Math.min(Math.max(svg.clientWidth || 640, 300), 640); // letters keep their size on a phone
    svg.setAttribute("viewBox", `0 0 ${width} 320`);
    const [left, right, top, bottom] = [56, width - 28, 12, 274];
    const values = [...option.median, ...option.lower.slice(option.last), ...option.upper.slice(option.last), ...option.points.map((p) => p[1]), target].filter((v) => v > 0);
    const [low, high] = [Math.min(...values) * 0.98, Math.max(...values) * 1.02];
    const x = (n) => left + ((right - left) * Math.log(n / data.sizes[0])) / Math.log(data.sizes.at(-1) / data.sizes[0]);
    const y = (loss) => bottom - ((bottom - top) * Math.log(loss / low)) / Math.log(high / low);
    const path = (curve) => curve.map((v, i) => `${x(data.sizes[i]).toFixed(1)},${y(v).toFixed(1)}`);
    const ticks = [];
    for (let n = 10 ** Math.ceil(Math.log10(data.sizes[0])); n <= data.sizes.at(-1); n *= 10) ticks.push(n);
    const every = Math.ceil((ticks.length * 62) / (right - left)); // numbers that don't touch on a phone
    const parts = ticks.map((n, i) => `<line class="grid" x1="${x(n)}" x2="${x(n)}" y1="${top}" y2="${bottom}"/>${(ticks.length - 1 - i) % every ? "" : `<text x="${x(n)}" y="${bottom + 18}" text-anchor="middle">${n.toLocaleString("en")}</text>`}`);
    parts.push(...marks(low, high).map((v) => `<line class="grid" x1="${left}" x2="${right}" y1="${y(v)}" y2="${y(v)}"/><text x="${left - 6}" y="${y(v) + 4}" text-anchor="end">${Number(v.toPrecision(3))}</text>`));
    if (option.median.every((v) => v !== null)) {
      parts.push(`<polygon class="band" points="${[...path(option.lower).slice(option.last), ...path(option.upper).slice(option.last).reverse()].join(" ")}"/>`);
      parts.push(`<polyline class="median" points="${path(option.median).join(" ")}"/>`);
    }
    parts.push(`<line class="target" x1="${left}" x2="${right}" y1="${y(target)}" y2="${y(target)}"/><text x="${left + 6}" y="${y(target) - 5}">target</text>`);
    if (Number.isFinite(needed)) parts.push(`<line class="needed" x1="${x(needed)}" x2="${x(needed)}" y1="${y(target)}" y2="${bottom}"/>`);
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
    const rows = plan(data, choice), best = rows[0], shown = field("encoder").value;
    root.querySelector("tbody").innerHTML = rows.map((row) => `<tr${row.name === shown ? ' class="chosen"' : ""} data-labels="${row.labels}" data-cost="${row.cost}"><th scope="row">${row.name}</th><td>${count(row.labels)}</td><td>${range(row.labels_low, row.labels_high)}</td><td>${likely(row.chance)}</td><td>${count(row.cost)}</td><td>${range(row.cost_low, row.cost_high)}</td></tr>`).join("");
    answer.textContent = Number.isFinite(best.cost)
      ? `Cheapest: ${best.name} with ${round(best.labels)} labels (${data.level} interval: ${range(best.labels_low, best.labels_high)}), if the target can be reached at all (chance: ${likely(best.chance)}), cost ${round(best.cost)}.`
      : `No encoder is likely to reach ${choice.target} with up to ${round(data.sizes.at(-1))} labels.`;
    draw(data.options.find((o) => o.name === shown), rows.find((row) => row.name === shown).labels, choice.target);
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
