"use strict";

const slide = (figure, value) => {
  const range = figure.querySelector("input");
  range.value = value;
  range.setAttribute("aria-valuetext", `${Math.round(range.value)} % before`);
  figure.style.setProperty("--cut", `${range.value}%`);
};

const figures = [...document.querySelectorAll(".compare")];
for (const figure of figures) {
  const follow = (event) => {
    const box = figure.getBoundingClientRect();
    slide(figure, (100 * (event.clientX - box.left)) / box.width);
  };
  figure.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    // The range below takes the focus, so that the arrow keys go on from here.
    event.preventDefault();
    figure.querySelector("input").focus({ preventScroll: true, focusVisible: false });
    figure.setPointerCapture(event.pointerId);
    follow(event);
  });
  figure.addEventListener("pointermove", (event) => {
    if (figure.hasPointerCapture(event.pointerId)) follow(event);
  });
  figure.addEventListener("input", (event) => slide(figure, event.target.value));
}

const all = document.querySelector("#all");
all?.addEventListener("input", () => figures.forEach((figure) => slide(figure, all.value)));

const grid = document.querySelector(".pictures");
const show = (group) => {
  const rank = (card) => Number(card.getAttribute(`data-${group}`));
  const cards = [...grid.children];
  for (const card of cards) card.hidden = !card.hasAttribute(`data-${group}`);
  grid.append(...cards.filter((card) => !card.hidden).sort((a, b) => rank(a) - rank(b)));
  document.querySelector("#reason").textContent = document.querySelector(`#show-${group}`).dataset.reason;
};
const choices = [...document.querySelectorAll("input[name=group]")];
for (const choice of choices) choice.addEventListener("change", () => show(choice.value));
if (choices.length) show(choices.find((choice) => choice.checked).value);
