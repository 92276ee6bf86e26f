"use strict";
// Tables of class "sortable": a button in each heading sorts by it; cells may carry data-value, those without one go last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        const text = cell.dataset.value ?? cell.textContent.trim();
        if (text === "" || text === "–") return null;
        return Number.isNaN(Number(text)) ? text.toLowerCase() : Number(text);
      };
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
        return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
// Galleries: a thumbnail opens large in a dialog. All images inside its button are views of it, named by data-name and
// switched there by buttons, the space bar or their numbers; the arrow keys go to the next thumbnail, Escape closes.
const dialog = document.createElement("dialog");
dialog.innerHTML = '<img alt=""><p class="quiet" aria-live="polite"></p><div class="views"></div>';
dialog.tabIndex = -1;
document.body.append(dialog);
let shownThumbnail = null;
let shownView = 0;
const viewsOf = (thumbnail) => [...thumbnail.querySelectorAll("img")].map((image) => [image.dataset.name, image.src]);
function showView(number) {
  const views = viewsOf(shownThumbnail);
  shownView = (number + views.length) % views.length;
  dialog.querySelector("img").src = views[shownView][1];
  dialog.querySelector("img").alt = views[shownView][0];
  [...dialog.querySelectorAll(".views button.view")].forEach((button, index) =>
    button.setAttribute("aria-pressed", String(index === shownView)));
}
function showThumbnail(thumbnail, view) {
  shownThumbnail = thumbnail;
  const caption = thumbnail.closest("figure")?.querySelector("figcaption")?.textContent ?? "";
  dialog.querySelector("p").textContent = caption.trim();
  const bar = dialog.querySelector(".views");
  bar.replaceChildren();
  const views = viewsOf(thumbnail);
  if (views.length > 1) {
    views.forEach(([name], index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "view";
      button.textContent = name;
      button.addEventListener("click", (event) => {
        showView(index);
        if (event.detail) dialog.focus();  // clicked, not pressed: the keys go on as before
      });
      bar.append(button);
    });
  }
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "close";
  close.addEventListener("click", () => dialog.close());
  bar.append(close);
  showView(view);
  if (!dialog.open) dialog.showModal();
  dialog.focus();  // rather than a button of it: the space bar switches views, and the buttons are new ones each time
}
document.addEventListener("click", (event) => {
  const thumbnail = event.target.closest("button.thumbnail");
  if (thumbnail) {
    const clicked = [...thumbnail.querySelectorAll("img")].indexOf(event.target);  // -1 for the keyboard
    showThumbnail(thumbnail, clicked >= 0 ? clicked : Number(thumbnail.dataset.view ?? 0));
  } else if (event.target === dialog) dialog.close();
});
dialog.addEventListener("keydown", (event) => {
  const thumbnails = [...(shownThumbnail.closest(".gallery") ?? document).querySelectorAll("button.thumbnail")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) {
    showThumbnail(thumbnails[(thumbnails.indexOf(shownThumbnail) + step + thumbnails.length) % thumbnails.length], shownView);
    event.preventDefault();
  } else if (event.key === " " && event.target.tagName !== "BUTTON") {
    showView(shownView + 1);
    event.preventDefault();
  } else if (event.key >= "1" && event.key <= String(viewsOf(shownThumbnail).length)) {
    showView(Number(event.key) - 1);
  }
});
dialog.addEventListener("close", () => shownThumbnail?.focus());
