// The preview's few interactions; without them every page still reads.
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");

document.querySelector(".theme").addEventListener("click", () => {
  const now = root.dataset.theme || (systemDark.matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* private window: the choice lasts this page */ }
});

const menu = document.querySelector(".menu");
const sidebar = document.getElementById("sidebar");
const current = sidebar.querySelector("[aria-current]");
if (current) sidebar.scrollTop = current.offsetTop + current.offsetHeight - 0.8 * sidebar.clientHeight;
menu.addEventListener("click", () => menu.setAttribute("aria-expanded", sidebar.classList.toggle("open")));

const box = document.querySelector(".lightbox");
for (const picture of document.querySelectorAll("figure img")) {
  const enlarge = () => {
    const copy = picture.cloneNode();
    for (const name of ["role", "tabindex", "aria-label"]) copy.removeAttribute(name);
    box.replaceChildren(copy);
    box.showModal();
  };
  picture.tabIndex = 0;
  picture.setAttribute("role", "button");
  picture.setAttribute("aria-label", `Enlarge: ${picture.alt || "figure"}`);
  picture.addEventListener("click", enlarge);
  picture.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); enlarge(); }
  });
}
box.addEventListener("click", () => box.close());

// Library and index of the search are scripts, which a page that was opened as a file may load as well, and are loaded
// when a reader asks for them.
const assets = new URL(".", document.currentScript.src);
const search = document.querySelector("dialog.search");
const load = (name) => new Promise((done, failed) => {
  document.head.append(Object.assign(document.createElement("script"), { src: new URL(name, assets).href, onload: done, onerror: failed }));
});
let ready;
function openSearch() {
  if (search.open || document.querySelector("dialog[open]")) return;
  search.showModal();
  search.querySelector("input").select();
  const status = search.querySelector("[role=status]");
  if (!ready) status.textContent = "Loading the index …";
  ready ??= load("search-index.js").then(() => load("search.js")).catch(() => {
    ready = undefined;
    status.textContent = "The index could not be loaded.";
  });
}
document.querySelector(".find").addEventListener("click", openSearch);
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
  const k = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey;
  if (slash || k) { event.preventDefault(); openSearch(); }
});
search.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { event.preventDefault(); search.close(); } // else the first one only empties the field
});
search.querySelector(".close").addEventListener("click", () => search.close());
search.addEventListener("click", (event) => { if (event.target === search) search.close(); });

const places = new Map([...document.querySelectorAll(".toc a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    places.forEach((a) => a.classList.remove("here"));
    const here = places.get(target.id), list = here.closest(".toc");
    here.classList.add("here");
    const [top, end] = [here.offsetTop, here.offsetTop + here.offsetHeight - list.clientHeight];
    if (list.scrollTop > top || list.scrollTop < end) list.scrollTop = top - 0.3 * list.clientHeight;
  }
}, { rootMargin: "-10% 0px -75% 0px" });
places.forEach((_, id) => watcher.observe(document.getElementById(id)));

for (const block of document.querySelectorAll("main div.sourceCode, main pre.sourceCode")) {
  if (block.parentElement.closest("div.sourceCode")) continue;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(block.querySelector("code").textContent.trimEnd()); button.textContent = "Copied"; }
    catch { button.textContent = "Select and copy by hand"; }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  block.append(button);
}
