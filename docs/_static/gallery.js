// Sort the cards of each group of the gallery. Without JavaScript, they keep their order.
"use strict";
addEventListener("DOMContentLoaded", () => {
  const controls = document.querySelector(".gallery-sort");
  const usual = new Map(
    [...document.querySelectorAll(".gallery")].map((group) => [group, [...group.children]]));
  controls.hidden = false;
  controls.querySelector("select").addEventListener("change", (event) => {
    const key = event.target.value.toLowerCase();
    // Returns are better if high, times and sizes if low; what is missing comes last.
    const sign = key === "time" || key === "size" ? 1 : -1;
    const value = (card) => {
      const found = card.getAttribute(`data-${key}`);
      return found === null ? Infinity : sign * Number(found);
    };
    for (const [group, cards] of usual) {
      const sorted = key ? [...cards].sort((a, b) => value(a) - value(b)) : cards;
      group.replaceChildren(...sorted);
    }
  });
});
