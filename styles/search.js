// The preview's search, loaded when a reader opens it: what the index holds is only ever put on the page as text.
(() => {
  // A word is a run of letters and digits; dots, underscores and hyphens within it make it one name of several parts.
  const RUN = /[\p{L}\p{N}\p{M}_]+(?:[.'\u2019\u2010\u2011-][\p{L}\p{N}\p{M}_]+)*/gu;
  const GREEK = Object.fromEntries([..."αβγδεζηθικλμνξοπρστυφχψω"].map((letter, place) => [letter, ("alpha beta gamma delta " +
    "epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi psi omega").split(" ")[place]]));
  const SHOWN = 30, WINDOW = 190, MIN_PREFIX = 2, MIN_FUZZY = 5;

  const fold = (text) => text.normalize("NFKD").replace(/\p{M}+/gu, "").replace(/[\u2010\u2011]/g, "-").replace(/\u2019/g, "'")
    .toLowerCase().replace(/[\u03b1-\u03c9]/g, (letter) => GREEK[letter === "ς" ? "σ" : letter]);

  // A run as a whole, what follows each dot or hyphen in it, and its single parts: `gzlib.fitting.labels_needed` is found
  // by `labels_needed`, by `fitting.labels_needed` and by `labels`.
  function pieces(run) {
    const found = [{ start: 0, end: run.length, term: fold(run) }];
    if (!/[._'\u2019\u2010\u2011-]/.test(run)) return found;
    for (const { index } of run.matchAll(/[.'\u2019\u2010\u2011-]/g))
      found.push({ start: index + 1, end: run.length, term: fold(run.slice(index + 1)) });
    for (const part of run.matchAll(/[^._'\u2019\u2010\u2011-]+/g))
      found.push({ start: part.index, end: part.index + part[0].length, term: fold(part[0]) });
    return found;
  }
  const parts = (run) => run.split(/[._'\u2019\u2010\u2011-]+/).filter(Boolean).map(fold);
  const runs = (text) => text.match(RUN) ?? [];
  const terms = (text) => runs(text).flatMap((run) => [...new Set(pieces(run).map(({ term }) => term))]);

  const { pages, sections } = window.bookIndex;
  // Of a word that is no name in code, the chapters say more than the reference of the library.
  const boostDocument = (id, term) => (sections[id][4] && !/[._]/.test(term) ? 0.4 : 1);
  const engine = new window.MiniSearch({
    fields: ["title", "name", "page", "text"],
    tokenize: terms,
    processTerm: (term) => term,
    searchOptions: { tokenize: (term) => [term], boost: { title: 4, name: 6, page: 1.5 }, boostDocument },
  });
  engine.addAll(sections.map(([page, , title, text, name], id) => ({ id, title, name, page: pages[page][1], text })));

  // Every run of the query is to be there, as it is or by all of its parts.
  function find(query, options) {
    const queries = runs(query).map((run) => {
      const whole = fold(run), single = parts(run);
      return single.length > 1 ? { combineWith: "OR", queries: [whole, { combineWith: "AND", queries: single }] } : whole;
    });
    return queries.length ? engine.search({ combineWith: "AND", queries }, options) : [];
  }
  const prefix = (term) => term.length >= MIN_PREFIX;
  const close = { prefix, fuzzy: (term) => (term.length >= MIN_FUZZY ? 0.2 : false) };

  // Where the terms of a result stand in a text: [start, end] in its order, none within another.
  function places(text, wanted) {
    const spots = [];
    for (const run of text.matchAll(RUN))
      for (const { start, end, term } of pieces(run[0])) {
        const [from, to] = [run.index + start, run.index + end];
        if (wanted.has(term) && !spots.some(([a, b]) => from < b && to > a)) spots.push([from, to]);
      }
    return spots.sort(([a], [b]) => a - b);
  }

  function marked(element, text, spots, from = 0, to = text.length) {
    let at = from;
    for (const [start, end] of spots) {
      if (start < at || end > to) continue;
      element.append(text.slice(at, start), Object.assign(document.createElement("mark"), { textContent: text.slice(start, end) }));
      at = end;
    }
    element.append(text.slice(at, to));
    return element;
  }

  // The part of a text with most of what was asked for, between spaces.
  function snippet(text, wanted, asked) {
    const spots = places(text, wanted), words = spots.map(([from, to]) => fold(text.slice(from, to)));
    const worth = (place, run) => Math.max(...asked[run].map((part) => (words[place].startsWith(part) ? part.length : 0)));
    let best = [0, spots.length ? spots[0][0] : 0];
    spots.forEach(([start], first) => {
      const inside = [...spots.keys()].filter((place) => place >= first && spots[place][1] <= start + WINDOW);
      const all = asked.reduce((sum, _, run) => sum + Math.max(0, ...inside.map((place) => worth(place, run))), 0);
      if (all > best[0]) best = [all, start];
    });
    let from = Math.max(0, best[1] - 50);
    if (from) from = Math.min(best[1], text.indexOf(" ", from) + 1 || best[1]);
    let to = Math.min(text.length, from + WINDOW);
    if (to < text.length && text.lastIndexOf(" ", to) > best[1] + 20) to = text.lastIndexOf(" ", to);
    const shown = Object.assign(document.createElement("span"), { className: "snippet" });
    if (from) shown.append("… ");
    marked(shown, text, spots, from, to);
    if (to < text.length) shown.append(" …");
    return shown;
  }

  const box = document.querySelector("dialog.search");
  const [field, status, list] = [box.querySelector("input"), box.querySelector("[role=status]"), box.querySelector("ol")];
  const root = new URL("..", document.querySelector("script[src$='assets/book.js']").src);

  function item({ id, terms: found }, asked) {
    const [page, anchor, title, text] = sections[id], [href, name] = pages[page], wanted = new Set(found);
    const link = document.createElement("a");
    link.href = new URL(href, root).href + (anchor ? `#${encodeURIComponent(anchor)}` : "");
    const head = marked(Object.assign(document.createElement("span"), { className: "title" }), title, places(title, wanted));
    link.append(head);
    if (sections[id - 1]?.[0] === page) link.append(" ", Object.assign(document.createElement("span"), { className: "page", textContent: name }));
    if (text) link.append(" ", snippet(text, wanted, asked));
    const entry = document.createElement("li");
    entry.append(link);
    return entry;
  }

  function look() {
    const query = field.value.trim();
    let results = find(query, { prefix }), word = "";
    if (query && !results.length) { results = find(query, close); word = "close "; }
    const asked = runs(query).map((run) => [fold(run), ...parts(run)]);
    list.replaceChildren(...results.slice(0, SHOWN).map((result) => item(result, asked)));
    const number = results.length === 1 ? `1 ${word}match` : `${results.length} ${word}matches`;
    const more = results.length > SHOWN ? `; the first ${SHOWN} are shown` : "";
    status.textContent = !query ? "" : results.length ? number + more : `Nothing in the book matches “${query}”.`;
  }

  field.addEventListener("input", look);
  box.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    list.querySelector("a")?.click();
  });
  // The list is of links, so that Enter, the middle button and a screen reader do with them what they do everywhere.
  box.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")], at = links.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: at < 0 ? null : 0, End: at < 0 ? null : links.length - 1 }[event.key];
    if (next != null && links.length) {
      event.preventDefault();
      (next < 0 ? field : links[Math.min(next, links.length - 1)]).focus();
    } else if (at >= 0 && event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey) field.focus();
  });
  list.addEventListener("click", (event) => {
    if (event.target.closest("a") && !event.ctrlKey && !event.metaKey && !event.shiftKey) box.close();
  });
  look();
})();
