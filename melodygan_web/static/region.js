// A part of a waveform that is marked by dragging; the limits are in the inputs start_s and end_s of its form.
"use strict";

(() => {
  const HANDLE_S = 0.05;

  function attach(holder) {
    const form = holder.closest("form");
    const { start_s: start, end_s: end } = form.elements;
    const duration = Number(holder.dataset.duration);
    const canvas = document.createElement("canvas");
    holder.append(canvas);
    let peaks = [];
    let anchor = null; // where a drag began, in seconds

    function draw() {
      const box = canvas.getBoundingClientRect();
      const scale = devicePixelRatio;
      Object.assign(canvas, { width: Math.round(box.width * scale), height: Math.round(box.height * scale) });
      const { width, height } = canvas;
      const context = canvas.getContext("2d");
      const style = getComputedStyle(document.documentElement);
      const [from, to] = [start, end].map((input) => (width * Number(input.value)) / duration);
      const marked = Number(end.value) > Number(start.value);
      context.clearRect(0, 0, width, height);
      const columns = peaks.length / 2;
      for (let x = 0; x < width; x += 1) {
        const k = 2 * Math.floor((x * columns) / width);
        const inside = marked && x >= from && x <= to;
        context.fillStyle = style.getPropertyValue(inside ? "--accent" : "--quiet");
        const top = (height * (1 - (peaks[k + 1] ?? 0))) / 2;
        context.fillRect(x, top, 1, Math.max(1, (height * ((peaks[k + 1] ?? 0) - (peaks[k] ?? 0))) / 2));
      }
      if (!marked) return;
      context.globalAlpha = 0.16;
      context.fillStyle = style.getPropertyValue("--accent");
      context.fillRect(from, 0, to - from, height);
      context.globalAlpha = 1;
      for (const x of [from, to]) context.fillRect(x - scale, 0, 2 * scale, height);
    }

    function secondOf(event) {
      const box = canvas.getBoundingClientRect();
      return Math.max(0, Math.min(duration, ((event.clientX - box.left) / box.width) * duration));
    }

    function mark(a, b) {
      const [from, to] = a < b ? [a, b] : [b, a];
      start.value = from.toFixed(2);
      // No more than the sound is long, as rounding may have it.
      end.value = Math.min(Math.floor(duration * 100) / 100, to).toFixed(2);
      draw();
    }

    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const at = secondOf(event);
      const near = (input) => Math.abs(Number(input.value) - at) < HANDLE_S * duration;
      // A drag that begins at a limit moves it.
      anchor = near(start) ? Number(end.value) : near(end) ? Number(start.value) : at;
    });
    canvas.addEventListener("pointermove", (event) => anchor !== null && mark(anchor, secondOf(event)));
    canvas.addEventListener("pointerup", () => {
      anchor = null;
      start.dispatchEvent(new Event("change", { bubbles: true }));
    });
    canvas.addEventListener("pointercancel", () => { anchor = null; });
    for (const input of [start, end]) input.addEventListener("input", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new ResizeObserver(draw).observe(holder);

    if (!(Number(end.value) > Number(start.value)) || Number(end.value) > duration) {
      mark(duration * 0.4, duration * 0.6);
    }
    fetch(holder.dataset.peaks)
      .then((answer) => answer.json())
      .then((values) => { peaks = values; draw(); })
      .catch(() => Studio.toast("The waveform cannot be loaded: type the limits of the part."));
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-region]").forEach(attach));
})();
