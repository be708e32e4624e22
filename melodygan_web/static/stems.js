// Stems of a track in sync: parts of each wav are fetched, and started at the same sample of one audio clock.
// An audio element per stem would drift apart, and whole files of many minutes would not fit into memory.
"use strict";

(() => {
  const box = document.querySelector("[data-stems]");
  if (!box) return;
  // Seconds per part, and how far ahead of what is heard parts are fetched.
  const PART_S = 4;
  const AHEAD_S = 10;
  const HEADER_BYTES = 4096;
  const button = box.querySelector("[data-stems-play]");
  const slider = box.querySelector("[data-stems-seek]");
  const clock = box.querySelector("[data-stems-time]");
  const stems = [...box.querySelectorAll("[data-stem]")].map((row) => ({
    row,
    url: row.dataset.stem,
    mute: row.querySelector("[data-mute]"),
    solo: row.querySelector("[data-solo]"),
  }));
  let context = null;
  // Each start has a number, so that what an earlier one still fetches is dropped.
  let run = 0;
  let timer = 0;
  let playing = null; // { startedAt, from }: clock of the context and position of the track, in seconds
  let position = 0;
  let on = false;

  const isOn = (toggle) => toggle.getAttribute("aria-pressed") === "true";

  // Wav files.

  async function bytes(stem, from, to) {
    if (stem.all) return stem.all.slice(from, to);
    const answer = await fetch(stem.url, { headers: { Range: `bytes=${from}-${to - 1}` } });
    if (!answer.ok) throw new Error(`The stem cannot be loaded: the server answered ${answer.status}.`);
    const found = await answer.arrayBuffer();
    if (answer.status === 206) return found;
    // A store elsewhere is served in one piece.
    stem.all = found;
    return found.slice(from, to);
  }

  async function open(stem) {
    if (stem.format) return;
    const view = new DataView(await bytes(stem, 0, HEADER_BYTES));
    const name = (at) => String.fromCharCode(...[0, 1, 2, 3].map((k) => view.getUint8(at + k)));
    const format = {};
    for (let at = 12; at + 8 <= view.byteLength; at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) % 2)) {
      if (name(at) === "fmt ") {
        Object.assign(format, {
          kind: view.getUint16(at + 8, true),
          channels: view.getUint16(at + 10, true),
          rate: view.getUint32(at + 12, true),
          bits: view.getUint16(at + 22, true),
        });
      } else if (name(at) === "data") {
        Object.assign(format, { start: at + 8, size: view.getUint32(at + 4, true) });
        break;
      }
    }
    const isFloat = format.kind === 3 && format.bits === 32;
    if (!format.start || !(isFloat || (format.kind === 1 && format.bits === 16))) {
      throw new Error("This stem is no wav of 32-bit float or 16 bit, and cannot be played with the others.");
    }
    format.frame = (format.channels * format.bits) / 8;
    format.frames = Math.floor(format.size / format.frame);
    stem.format = format;
  }

  async function part(stem, first) {
    const { start, frame, frames, channels, rate, bits } = stem.format;
    const count = Math.min(Math.round(PART_S * rate), frames - first);
    if (count <= 0) return null;
    const data = await bytes(stem, start + first * frame, start + (first + count) * frame);
    const samples = bits === 32 ? new Float32Array(data) : Float32Array.from(new Int16Array(data), (x) => x / 32768);
    const buffer = context.createBuffer(channels, count, rate);
    for (let channel = 0; channel < channels; channel += 1) {
      const out = buffer.getChannelData(channel);
      for (let k = 0; k < count; k += 1) out[k] = samples[k * channels + channel];
    }
    return buffer;
  }

  // Playing.

  const duration = () => Math.max(...stems.map((stem) => stem.format.frames / stem.format.rate));
  const now = () => (playing ? Math.max(playing.from, playing.from + context.currentTime - playing.startedAt) : position);

  function setGains() {
    const solo = stems.some((stem) => isOn(stem.solo));
    for (const stem of stems) {
      const heard = !isOn(stem.mute) && (!solo || isOn(stem.solo));
      stem.row.classList.toggle("silent", !heard);
      // 10 ms: a jump would click.
      stem.gain?.gain.setTargetAtTime(heard ? 1 : 0, context.currentTime, 0.01);
    }
  }

  async function schedule(mine, from) {
    const { rate } = stems[0].format;
    let first = Math.round(from * rate);
    while (mine === run) {
      const buffers = await Promise.all(stems.map((stem) => part(stem, first)));
      if (mine !== run) return;
      if (buffers.every((buffer) => !buffer)) return;
      if (!playing) {
        playing = { startedAt: context.currentTime + 0.1, from };
        box.dataset.playing = "1";
      }
      let at = playing.startedAt + first / rate - from;
      if (at < context.currentTime) {
        // Fetching was too slow: all stems wait for the same time.
        playing.startedAt += context.currentTime + 0.1 - at;
        at = context.currentTime + 0.1;
      }
      buffers.forEach((buffer, k) => {
        if (!buffer) return;
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(stems[k].gain);
        source.start(at);
        stems[k].sources.push(source);
      });
      first += Math.round(PART_S * rate);
      while (mine === run && first / rate - now() > AHEAD_S) await new Promise((done) => { setTimeout(done, 250); });
    }
  }

  function silence() {
    run += 1;
    for (const stem of stems) {
      for (const source of stem.sources || []) source.disconnect();
      stem.sources = [];
    }
    clearInterval(timer);
    playing = null;
    delete box.dataset.playing;
  }

  function pause() {
    position = now();
    on = false;
    silence();
    show();
  }

  async function play() {
    for (const audio of document.querySelectorAll("audio")) audio.pause();
    silence();
    const mine = run;
    on = true;
    show();
    try {
      context = context || new AudioContext();
      await context.resume();
      await Promise.all(stems.map(open));
      for (const stem of stems) {
        if (stem.gain) continue;
        stem.gain = context.createGain();
        stem.gain.connect(context.destination);
      }
      setGains();
      if (position >= duration() - 0.05) position = 0;
      timer = setInterval(show, 100);
      await schedule(mine, position);
    } catch (error) {
      if (mine !== run) return;
      pause();
      Studio.toast(error.message);
    }
  }

  function show() {
    if (playing && now() >= duration()) {
      position = 0;
      on = false;
      silence();
    }
    const at = now();
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "Pause" : "Play together";
    slider.value = at;
    clock.textContent = `${Math.floor(at / 60)}:${String(Math.floor(at % 60)).padStart(2, "0")}`;
    slider.setAttribute("aria-valuetext", clock.textContent);
  }

  button.addEventListener("click", () => (on ? pause() : play()));
  slider.addEventListener("input", () => {
    silence();
    position = Number(slider.value);
    if (on) play();
    else show();
  });
  for (const stem of stems) {
    for (const toggle of [stem.mute, stem.solo]) {
      toggle.addEventListener("click", () => {
        toggle.setAttribute("aria-pressed", String(!isOn(toggle)));
        setGains();
      });
    }
  }
  // One thing is heard at a time.
  document.addEventListener("play", () => { if (on) pause(); }, true);
})();
