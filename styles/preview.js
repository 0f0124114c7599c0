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

const places = new Map([...document.querySelectorAll(".toc a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
const watcher = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    places.forEach((a) => a.classList.remove("here"));
    places.get(target.id).classList.add("here");
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
