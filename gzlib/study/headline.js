// The front page's chart: values along each curve at a number of galaxies that the reader chooses.

// A value between two known sizes, straight on logarithmic axes; null outside of the curve.
function valueAt(curve, n, column = 1) {
  const i = curve.findIndex((row) => row[0] >= n * (1 - 1e-9));
  if (i < 0 || (i === 0 && curve[0][0] > n * (1 + 1e-9))) return null;
  if (i === 0) return curve[0][column];
  const [a, b] = [curve[i - 1], curve[i]];
  return a[column] * (b[column] / a[column]) ** (Math.log(n / a[0]) / Math.log(b[0] / a[0]));
}

function sizeAt(curve, target) {
  const i = curve.findIndex((row) => row[1] <= target);
  if (i < 1) return i === 0 ? curve[0][0] : null;
  const [a, b] = [curve[i - 1], curve[i]];
  return a[0] * (b[0] / a[0]) ** (Math.log(a[1] / target) / Math.log(a[1] / b[1]));
}

// To two figures; to three where runs are, or the axis has its marks.
function round(n, marked = []) {
  if (marked.includes(n)) return Number(n.toPrecision(3)).toLocaleString("en");
  const unit = 10 ** Math.max(Math.floor(Math.log10(n)) - 1, 0);
  return (Math.round(n / unit) * unit).toLocaleString("en");
}

function reading(view, n) {
  const rows = view.curves.map((curve) => ({ curve, value: valueAt(curve.line, n), low: valueAt(curve.line, n, 2), high: valueAt(curve.line, n, 3) }));
  return rows.filter((row) => row.value !== null).sort((a, b) => a.value - b.value);
}

function special(view) {
  const ends = view.curves.flatMap(({ line }) => [line[0][0], line[line.length - 1][0]]);
  return [...new Set([...ends, ...view.ticks, ...view.curves.flatMap((curve) => curve.points.map((point) => point[0]))])];
}

function sentence(view, n, rows) {
  const show = (value) => `${value.toFixed(view.digits)}${view.unit}`;
  const size = round(n, special(view));
  if (!rows.length) return `No curve reaches ${size} ${view.x}.`;
  const [best, worst] = [rows[0], rows[rows.length - 1]];
  const start = `With ${size} ${view.x}`;
  if (view.compare && rows.length === 2) {
    const fewer = Math.round(100 * (1 - best.value / worst.value));
    const needed = sizeAt(worst.curve.line, best.value);
    const all = worst.curve.line[worst.curve.line.length - 1][0];
    const labels = needed === null ? `more than the ${all.toLocaleString("en")} that were tried` : `about ${round(needed)}`;
    return `${start} the error is ${show(best.value)} with ${best.curve.name} and ${show(worst.value)} with ${worst.curve.name}: ${fewer}\u00a0% less. For that, ${worst.curve.name} needs ${labels}.`;
  }
  const values = ({ value, low, high }) => `${show(value)} (${view.range}: ${low.toFixed(view.digits)} to ${high.toFixed(view.digits)})`;
  const until = ({ curve }) => `it was measured up to ${curve.measured.toLocaleString("en")} only`;
  const known = rows.filter(({ curve }) => n <= curve.measured * 1.001);
  if (!known.length) {
    const most = view.measured.toLocaleString("en"), less = best.curve.measured < view.measured ? `; ${until(best)}` : "";
    return `${start}, ${best.curve.name} is forecast lowest, with ${values(best)}${less}. That is beyond the largest training set, ${most}: the law says so, no run does.`;
  }
  if (known[0] === best) return `${start}, ${best.curve.name} comes lowest, with ${values(best)}.`;
  return `${start}, ${known[0].curve.name} comes lowest of those that were measured up to there, with ${values(known[0])}. ${best.curve.name} is forecast to come lower, to ${values(best)}; ${until(best)}.`;
}

function page(root, data) {
  const find = (selector) => root.querySelector(selector);
  const slider = find('[name="n"]'), choice = find('[name="view"]'), svg = find("svg");
  const [left, top, bottom] = [56, 12, 284];
  let right = 612;
  let view = data.views[0];
  const ends = () => [Math.min(...view.curves.map((c) => c.line[0][0])), Math.max(...view.curves.map((c) => c.line[c.line.length - 1][0]))];
  const size = () => { // sizes that are marked or measured are met exactly by the slider's nearest step
    const [low, high] = ends(), n = low * (high / low) ** (slider.value / 1000), step = Math.log(high / low) / 1000;
    return special(view).find((one) => Math.abs(Math.log(one / n)) <= step / 2) ?? n;
  };
  const place = (n) => { const [low, high] = ends(); return (1000 * Math.log(n / low)) / Math.log(high / low); };

  function draw(n, rows) {
    const width = Math.min(Math.max(svg.clientWidth || 640, 300), 640); // letters keep their size on a phone
    right = width - 28;
    svg.setAttribute("viewBox", `0 0 ${width} 330`);
    const every = Math.ceil((view.ticks.length * 52) / (right - left));
    const values = view.curves.flatMap((c) => [...c.line.flatMap((row) => row.slice(1)), ...c.points.map((p) => p[1])]);
    const [low, high] = [Math.min(...values) * 0.98, Math.max(...values) * 1.02];
    const x = (size) => left + ((right - left) * place(size)) / 1000;
    const y = (value) => bottom - ((bottom - top) * Math.log(value / low)) / Math.log(high / low);
    const parts = [];
    if (view.measured < ends()[1]) parts.push(`<rect class="reach" x="${x(view.measured)}" y="${top}" width="${right - x(view.measured)}" height="${bottom - top}"/>`);
    for (const [i, tick] of view.ticks.entries()) parts.push(`<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="${top}" y2="${bottom}"/>${i % every ? "" : `<text x="${x(tick)}" y="${bottom + 22}" text-anchor="middle">${tick.toLocaleString("en")}</text>`}`);
    const losses = marks(low, high), texts = markTexts(losses);
    for (const [i, value] of losses.entries()) parts.push(`<line class="grid" x1="${left}" x2="${right}" y1="${y(value)}" y2="${y(value)}"/><text x="${left - 6}" y="${y(value) + 4}" text-anchor="end">${texts[i]}</text>`);
    const path = (line, column) => line.map((row) => `${x(row[0]).toFixed(1)},${y(row[column]).toFixed(1)}`);
    for (const { colour, line, points } of view.curves) {
      parts.push(`<g style="--own: ${colour}"><polygon class="band" points="${[...path(line, 2), ...path(line, 3).reverse()].join(" ")}"/><polyline class="curve" points="${path(line, 1).join(" ")}"/>`);
      parts.push(...points.map(([size, value]) => `<circle class="point" cx="${x(size)}" cy="${y(value)}" r="3"/>`), "</g>");
    }
    parts.push(`<line class="cursor" x1="${x(n)}" x2="${x(n)}" y1="${top}" y2="${bottom}"/><path class="grip" d="M${x(n)} ${bottom} l-7 9 h14 z"/>`);
    for (const { curve, value } of rows) parts.push(`<circle class="at" style="--own: ${curve.colour}" cx="${x(n)}" cy="${y(value)}" r="5"/>`);
    parts.push(`<text x="${(left + right) / 2}" y="324" text-anchor="middle">${view.x}</text><text transform="translate(12 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">${view.y}</text>`);
    svg.innerHTML = parts.join("");
  }

  function update() {
    const n = size(), shown = round(n, special(view)), rows = reading(view, n), show = (value) => value.toFixed(view.digits);
    find(".n").textContent = shown;
    slider.setAttribute("aria-valuetext", `${shown} ${view.x}`);
    find(".answer").textContent = sentence(view, n, rows);
    find("tbody").innerHTML = rows.map(({ curve, value, low, high }) => `<tr><th scope="row"><span class="swatch" style="--own: ${curve.colour}"></span>${curve.name}</th><td>${show(value)}</td><td>${show(low)} to ${show(high)}</td></tr>`).join("");
    draw(n, rows);
  }

  function open(index) {
    view = data.views[index];
    find(".axis").textContent = view.x[0].toUpperCase() + view.x.slice(1);
    find(".what").textContent = view.what;
    find(".value").textContent = view.y;
    find(".note").textContent = view.note;
    slider.value = place(view.start);
    update();
  }

  data.views.forEach((one, index) => choice.add(new Option(one.name, index)));
  choice.addEventListener("input", () => open(Number(choice.value)));
  slider.addEventListener("input", update);
  addEventListener("resize", update);
  const drag = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * (right + 28);
    slider.value = Math.min(Math.max((1000 * (at - left)) / (right - left), 0), 1000);
    update();
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); drag(event); });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  find("fieldset").hidden = false;
  svg.removeAttribute("hidden");
  open(0);
}
