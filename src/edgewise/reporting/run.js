"use strict";
// What the page shows already is shown again, of the trial that is asked for: nothing is made here
// of text, and without this the points lead to their rows in the table.
(() => {
  const NEAR = 28; // pixels within which a point is meant
  const panel = document.getElementById("point");
  if (!panel) return;
  const points = [...document.querySelectorAll("a.point")];
  document.querySelectorAll(".script").forEach((part) => { part.hidden = false; });
  points.forEach((point) => point.querySelector("title").remove()); // the tip says it

  const made = (name, text, inside = []) => {
    const element = document.createElement(name);
    element.textContent = text;
    element.append(...inside);
    return element;
  };

  const show = (number) => {
    const row = document.getElementById(`trial-${number}`);
    const titles = [...row.closest("table").tHead.rows[0].cells].map((cell) => cell.textContent);
    const facts = made("dl", "");
    facts.className = "facts";
    [...row.cells].slice(0, -1).forEach((cell, i) => {
      if (i > 1 && titles[i] && cell.textContent !== "–") {
        facts.append(made("dt", titles[i]), made("dd", cell.textContent));
      }
    });
    const role = row.cells[2].textContent;
    const title = `Trial ${number}${role ? ` (${role})` : ""}: ${row.cells[1].textContent}`;
    panel.replaceChildren(made("h3", title), facts, row.querySelector("pre").cloneNode(true));
    panel.dataset.trial = number;
  };

  const tip = made("div", "");
  tip.className = "tip";
  const light = (point) => {
    tip.remove();
    points.forEach((other) => {
      other.classList.toggle("lit", !!point && other.dataset.trial === point.dataset.trial);
    });
    if (!point) return;
    const svg = point.ownerSVGElement, area = svg.parentElement;
    const left = point.dataset.x > 50, x = svg.getBoundingClientRect().left
      - area.getBoundingClientRect().left + svg.clientWidth * point.dataset.x / 100;
    tip.textContent = point.getAttribute("aria-label");
    tip.style.top = `calc(${svg.clientHeight * point.dataset.y / 100}px + .9rem)`;
    tip.style.left = left ? "auto" : `${x}px`;
    tip.style.right = left ? `${area.clientWidth - x}px` : "auto";
    area.append(tip);
  };

  const nearest = (svg, event) => {
    const box = svg.getBoundingClientRect();
    let found = null, least = NEAR;
    for (const point of svg.querySelectorAll("a.point")) {
      const away = Math.hypot(
        box.left + box.width * point.dataset.x / 100 - event.clientX,
        box.top + box.height * point.dataset.y / 100 - event.clientY,
      );
      if (away < least) [found, least] = [point, away];
    }
    return found;
  };

  document.querySelectorAll(".plot .area > svg").forEach((svg) => {
    svg.addEventListener("pointermove", (event) => light(nearest(svg, event)));
    svg.addEventListener("pointerleave", () => light(null));
    svg.addEventListener("focusin", (event) => light(event.target.closest("a.point")));
    svg.addEventListener("focusout", () => light(null));
    svg.addEventListener("click", (event) => {
      const link = event.target.closest("a.point");
      const point = event.detail ? nearest(svg, event) || link : link; // no detail: a key
      if (!point) return;
      event.preventDefault();
      light(point);
      show(point.dataset.trial);
    });
  });

  const first = points.find((point) => point.querySelector(".ring")) || points[0];
  if (first) show(first.dataset.trial);
})();
