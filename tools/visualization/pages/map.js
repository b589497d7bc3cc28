"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const frame = document.getElementById("frame"), plot = document.getElementById("plot");
const card = document.getElementById("card"), said = document.getElementById("said");
const points = [...plot.querySelectorAll("circle")];
let now = null;

function shown(number) { return !points[number].classList.contains("off"); }

function describe(number) {
  const [name, group] = data.points[number];
  return group === null ? name : `${name}, ${data.groups[group]}`;
}

function leave() {
  if (now !== null) points[now].classList.remove("now");
  now = null;
  card.hidden = true;
}

function look(number) {
  leave();
  now = number;
  const point = points[number];
  point.classList.add("now");
  const picture = document.createElement("img");
  picture.alt = "";
  if (data.pictures[number]) picture.src = data.pictures[number];
  const line = document.createElement("div");
  line.textContent = describe(number);
  card.replaceChildren(...(data.pictures[number] ? [picture, line] : [line]));
  card.hidden = false;
  place(point);
  picture.addEventListener("load", () => { if (number === now) place(point); });
}

function place(point) {
  const around = frame.getBoundingClientRect(), box = point.getBoundingClientRect();
  const left = box.right - around.left + 8, top = box.top - around.top + 8;
  const beyond = left + card.offsetWidth > around.width;
  card.style.left = `${Math.max(0, beyond ? box.left - around.left - card.offsetWidth - 8 : left)}px`;
  card.style.top = `${Math.max(0, Math.min(top, around.height - card.offsetHeight))}px`;
}

function nearest(event) {
  // The point under the pointer, or the nearest one within a few pixels.
  let best = null, least = 14 ** 2;
  points.forEach((point, number) => {
    if (!shown(number)) return;
    const box = point.getBoundingClientRect();
    const x = (box.left + box.right) / 2 - event.clientX, y = (box.top + box.bottom) / 2 - event.clientY;
    if (x * x + y * y <= least) { best = number; least = x * x + y * y; }
  });
  return best;
}

function follow(event) {
  const number = nearest(event);
  if (number === null) leave(); else if (number !== now) look(number);
}

plot.addEventListener("pointermove", follow);
// A finger does not hover: what it has touched stays until it touches something else.
plot.addEventListener("pointerdown", follow);
plot.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") leave(); });

const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function step(way) {
  // The nearest point in that direction, where what lies aside counts twice.
  const from = points[now], x0 = +from.getAttribute("cx"), y0 = +from.getAttribute("cy");
  let best = null, least = Infinity;
  points.forEach((point, number) => {
    if (!shown(number) || number === now) return;
    const x = +point.getAttribute("cx") - x0, y = +point.getAttribute("cy") - y0;
    const along = x * way[0] + y * way[1], aside = Math.abs(x * way[1]) + Math.abs(y * way[0]);
    if (along > 0 && along + 2 * aside < least) { best = number; least = along + 2 * aside; }
  });
  return best;
}

plot.addEventListener("keydown", (event) => {
  const first = points.findIndex((point, number) => shown(number));
  let next = null;
  if (event.key === "Escape") leave();
  else if (event.key === "Home") next = first;
  else if (event.key in ways) next = now === null ? first : step(ways[event.key]);
  else return;
  event.preventDefault();
  if (next === null || next < 0) return;
  look(next);
  said.textContent = describe(next);
});

document.querySelectorAll(".legend input").forEach((box) => box.addEventListener("change", () => {
  points.forEach((point, number) => {
    if (String(data.points[number][1]) === box.value) point.classList.toggle("off", !box.checked);
  });
  if (now !== null && !shown(now)) leave();
}));
