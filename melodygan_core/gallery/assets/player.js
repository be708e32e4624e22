/*
 * The player of the gallery and of the studio: waveform, spectrogram, zoom, and A/B of any two sounds.
 *
 * MelodyganPlayer.mount(root) upgrades each
 *
 *   <div class="sound" data-title="..." data-peaks="URL, or a JSON array of lows and highs from -1 to 1"
 *        data-duration="seconds" data-spectrogram="URL" data-lufs="loudness" data-group="sounds of one source">
 *     <audio controls preload="none" src="..."></audio>
 *   </div>
 *
 * All but the audio is optional. Without JavaScript the audio element remains. An <img class="mg-spectrogram"> in
 * the element takes the place of data-spectrogram, for pages that show it without JavaScript, too.
 *
 * Sounds are mixed by nothing: Web Audio would be silent on pages opened as files, so that loudness is set by the
 * volume of the audio elements, which can only lower it.
 */
"use strict";

const MelodyganPlayer = (() => {
  const STEP_S = 5;
  const MOST_ZOOM = 16;
  // A nearly silent sound does not take its partner with it: at most 20 dB.
  const LEAST_GAIN = 0.1;
  // Browsers draw nothing on a canvas that is too wide.
  const MOST_PIXELS = 8192;
  // Quiet sounds are drawn larger, so that their shape is seen.
  const MOST_SCALE = 6;

  const players = new WeakMap(); // of each mounted .sound
  const pair = { A: null, B: null };
  let pairIsChosen = false; // by a button; otherwise it follows the group that is heard
  let current = null; // the .sound that was started last
  let volume = 1; // of the page, as the listener set it
  let muted = false;
  let dock = null;
  let frame = 0;

  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const mounted = () => [...document.querySelectorAll(".sound.mg")];
  const audioOf = (sound) => players.get(sound).audio;
  const titleOf = (sound) => sound.dataset.title || "sound";

  function element(name, className, attributes = {}, text = "") {
    const made = document.createElement(name);
    made.className = className;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  function button(className, label, text, action) {
    const made = element("button", `mg-button ${className}`, { type: "button", "aria-label": label }, text);
    made.title = label;
    made.addEventListener("click", action);
    return made;
  }

  const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

  // ---- One sound ----

  function durationOf(sound) {
    const { duration } = audioOf(sound);
    return Number.isFinite(duration) ? duration : Number(sound.dataset.duration) || 0;
  }

  function seek(sound, seconds) {
    const duration = durationOf(sound);
    // Before anything is loaded, this is where the sound will start.
    audioOf(sound).currentTime = Math.max(0, duration ? Math.min(seconds, duration) : seconds);
    players.get(sound).isPlaced = true;
    show(sound);
  }

  function play(sound) {
    audioOf(sound).play().catch((error) => {
      // A pause before the sound has started is no error.
      if (error.name !== "AbortError") report(sound, "This sound cannot be played.");
    });
  }

  const report = (sound, sentence) => { players.get(sound).note.textContent = sentence; };

  async function loadPeaks(sound) {
    const source = sound.dataset.peaks;
    if (!source) return;
    try {
      let values = source;
      if (!source.trimStart().startsWith("[")) {
        const answer = await fetch(source);
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        values = await answer.text();
      }
      const peaks = JSON.parse(values).flat().map(Number);
      const highest = peaks.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const scale = Math.min(MOST_SCALE, 0.95 / (highest || 1));
      players.get(sound).peaks = peaks.map((value) => value * scale);
    } catch (error) {
      report(sound, `The waveform cannot be loaded: ${error.message}.`);
    }
    draw(sound);
  }

  /** Draws the waveform; what was heard is in the accent colour. */
  function draw(sound) {
    const { canvas, peaks, audio } = players.get(sound);
    const box = canvas.getBoundingClientRect();
    const width = Math.min(MOST_PIXELS, Math.round(box.width * devicePixelRatio));
    const height = Math.round(box.height * devicePixelRatio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const colours = getComputedStyle(sound);
    context.clearRect(0, 0, width, height);
    const heard = Math.round((width * audio.currentTime) / (durationOf(sound) || 1));
    const columns = Math.floor(peaks.length / 2);
    for (const [from, to, name] of [[heard, width, "--mg-wave"], [0, heard, "--mg-accent"]]) {
      context.fillStyle = colours.getPropertyValue(name);
      for (let k = Math.floor((from / width) * columns); k < Math.ceil((to / width) * columns); k += 1) {
        // Whole pixels, because there are pale seams between parts of pixels.
        const left = Math.max(from, Math.floor((k * width) / columns));
        const right = Math.min(to, Math.floor(((k + 1) * width) / columns));
        const top = (height * (1 - peaks[2 * k + 1])) / 2;
        const size = (height * (peaks[2 * k + 1] - peaks[2 * k])) / 2;
        context.fillRect(left, top, right - left, Math.max(size, devicePixelRatio));
      }
    }
  }

  /** Brings the playhead, and what assistive technology reads of it, to the sound's position. */
  function show(sound) {
    const { audio, head, track, view } = players.get(sound);
    const duration = durationOf(sound);
    const share = duration ? Math.min(1, audio.currentTime / duration) : 0;
    head.style.left = `${100 * share}%`;
    head.hidden = share === 0;
    track.setAttribute("aria-valuemax", String(Math.round(duration)));
    track.setAttribute("aria-valuenow", String(Math.round(audio.currentTime)));
    track.setAttribute("aria-valuetext", `${clock(audio.currentTime)} of ${clock(duration)}`);
    const x = share * track.offsetWidth;
    if (!audio.paused && (x < view.scrollLeft || x > view.scrollLeft + view.clientWidth)) {
      view.scrollLeft = x - view.clientWidth / 10;
    }
    draw(sound);
  }

  function follow() {
    if (!current || audioOf(current).paused) return;
    show(current);
    // Otherwise `timeupdate` moves the playhead, four times per second.
    if (!calm.matches) frame = requestAnimationFrame(follow);
  }

  function zoom(sound, factor) {
    const player = players.get(sound);
    const { track, view, audio } = player;
    player.zoom = Math.max(1, Math.min(MOST_ZOOM, player.zoom * factor));
    track.style.width = `${100 * player.zoom}%`;
    const share = audio.currentTime / (durationOf(sound) || 1);
    view.scrollLeft = share * track.offsetWidth - view.clientWidth / 2;
    player.zoomOut.disabled = player.zoom === 1;
    player.zoomIn.disabled = player.zoom === MOST_ZOOM;
    draw(sound);
  }

  function seekByPointer(sound) {
    const { track, audio } = players.get(sound);
    const to = (event) => {
      const box = track.getBoundingClientRect();
      seek(sound, ((event.clientX - box.left) / box.width) * durationOf(sound));
    };
    const release = () => track.removeEventListener("pointermove", to);
    track.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      track.setPointerCapture(event.pointerId);
      track.addEventListener("pointermove", to);
      to(event);
    });
    track.addEventListener("pointerup", (event) => {
      release();
      if (event.button === 0 && audio.paused) play(sound);
    });
    // A finger that scrolls the page.
    track.addEventListener("pointercancel", release);
  }

  // ---- All sounds of the page ----

  /** Sets volumes so that both of a pair are as loud as the quieter one. */
  function setVolumes() {
    const levels = [pair.A, pair.B].map((sound) => (sound ? parseFloat(sound.dataset.lufs) : NaN));
    const quieter = Math.min(...levels);
    for (const sound of mounted()) {
      const player = players.get(sound);
      const inPair = sound === pair.A || sound === pair.B;
      const gainDb = inPair ? quieter - parseFloat(sound.dataset.lufs) : 0;
      player.gain = Number.isFinite(gainDb) ? Math.max(LEAST_GAIN, 10 ** (gainDb / 20)) : 1;
      player.audio.volume = volume * player.gain;
      player.volume = player.audio.volume;
      player.audio.muted = muted;
    }
  }

  function volumeChanged(player) {
    const { audio } = player;
    // By the listener, not by setVolumes.
    if (Math.abs(audio.volume - player.volume) < 1e-4 && audio.muted === muted) return;
    volume = Math.min(1, audio.volume / player.gain);
    muted = audio.muted;
    setVolumes();
  }

  const groupOf = (sound) =>
    sound.dataset.group ? mounted().filter((other) => other.dataset.group === sound.dataset.group) : [];

  const placeOf = (sound) => (audioOf(sound).ended ? 0 : audioOf(sound).currentTime);

  function started(sound) {
    const before = current;
    const player = players.get(sound);
    const group = groupOf(sound);
    // Another version of what was heard goes on from the same place, unless the listener chose one.
    if (before && before !== sound && group.includes(before) && !player.isPlaced) seek(sound, placeOf(before));
    current = sound;
    for (const other of mounted()) if (other !== sound) audioOf(other).pause();
    for (const other of mounted()) other.classList.toggle("mg-playing", other === sound);
    if (!pairIsChosen && group.length > 1) {
      pair.A = group[0];
      pair.B = sound === group[0] ? (group.includes(pair.B) && pair.B !== sound ? pair.B : group[1]) : sound;
    }
    for (const other of group) audioOf(other).preload = "auto";
    pairChanged();
    cancelAnimationFrame(frame);
    follow();
  }

  function choose(side, sound) {
    const other = side === "A" ? "B" : "A";
    pair[side] = pair[side] === sound ? null : sound;
    if (pair[other] === sound) pair[other] = null;
    pairIsChosen = Boolean(pair.A || pair.B);
    if (pair[side]) audioOf(sound).preload = "auto";
    pairChanged();
  }

  /** Plays a side of the pair from where the sound before it was. */
  function hear(side) {
    const sound = pair[side];
    if (!sound || (sound === current && !audioOf(sound).paused)) return;
    if (current?.isConnected && current !== sound) seek(sound, placeOf(current));
    play(sound);
  }

  function pairChanged() {
    for (const side of ["A", "B"]) if (pair[side] && !pair[side].isConnected) pair[side] = null;
    setVolumes();
    for (const sound of mounted()) {
      for (const side of ["A", "B"]) {
        players.get(sound)[side].setAttribute("aria-pressed", String(pair[side] === sound));
      }
    }
    showDock();
  }

  function showDock() {
    if (!dock) {
      dock = element("section", "mg-dock", { "aria-label": "Compare two sounds" });
      const clear = button("mg-clear", "Stop comparing", "×", () => {
        Object.assign(pair, { A: null, B: null });
        pairIsChosen = false;
        pairChanged();
      });
      const says = element("p", "mg-hint", {}, "A and B: same place, same loudness");
      const sides = ["A", "B"].map((side) => element("button", "mg-button mg-side", { type: "button", "data-side": side }));
      for (const choice of sides) choice.addEventListener("click", () => hear(choice.dataset.side));
      dock.append(...sides, says, clear);
    }
    if (!dock.isConnected) document.body.append(dock);
    dock.hidden = !pair.A && !pair.B;
    for (const [k, side] of ["A", "B"].entries()) {
      const choice = dock.children[k];
      const title = pair[side] ? titleOf(pair[side]) : "not chosen";
      choice.replaceChildren(element("b", "", {}, side), " ", element("span", "", {}, title));
      choice.title = `${side}: ${title}`;
      choice.setAttribute("aria-pressed", String(Boolean(pair[side]) && pair[side] === current));
      choice.disabled = !pair[side];
    }
  }

  // ---- Keyboard ----

  const TYPING = "input, textarea, select, [contenteditable]:not([contenteditable='false'])";
  // These do something of their own with the space bar; the audio element with the arrows, too.
  const OWN_SPACE = "button, summary, a, audio, [role='button'], [role='checkbox'], [role='tab']";
  const OWN_ARROWS = "audio, [role='tab'], [role='radio'], [role='menuitem'], [role='option']";

  function key(event) {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (!(target instanceof Element) || target.closest(TYPING)) return;
    const focused = target.closest(".sound.mg");
    const sound = focused || (current?.isConnected ? current : mounted()[0]);
    if (!sound) return;
    const side = event.key.toUpperCase();
    if (event.key === " " && !target.closest(OWN_SPACE)) {
      if (audioOf(sound).paused) play(sound);
      else audioOf(sound).pause();
    } else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !target.closest(OWN_ARROWS)) {
      seek(sound, audioOf(sound).currentTime + (event.key === "ArrowLeft" ? -STEP_S : STEP_S));
    } else if (side === "A" || side === "B") {
      if (event.repeat) return;
      if (pair[side]) hear(side);
      else choose(side, sound);
    } else return;
    event.preventDefault();
  }

  // ---- Mounting ----

  function build(sound) {
    const audio = sound.querySelector("audio");
    const title = titleOf(sound);
    const canvas = element("canvas", "mg-wave");
    const given = sound.querySelector("img.mg-spectrogram");
    const source = sound.dataset.spectrogram;
    const alt = `Spectrogram of ${title}`;
    const image = given || (source ? element("img", "mg-spectrogram", { src: source, alt, loading: "lazy" }) : "");
    const head = element("span", "mg-head");
    const track = element("div", "mg-track", {
      role: "slider", tabindex: "0", "aria-label": `Position in ${title}`, "aria-valuemin": "0",
    });
    if (image) image.draggable = false;
    track.append(canvas, image, head);
    const view = element("div", "mg-view");
    view.append(track);
    const side = (name) => button("mg-choose", `${name}: compare ${title}`, name, () => choose(name, sound));
    const zoomIn = button("mg-zoom", `Zoom into ${title}`, "+", () => zoom(sound, 2));
    const zoomOut = button("mg-zoom", `Zoom out of ${title}`, "−", () => zoom(sound, 0.5));
    zoomOut.disabled = true;
    const player = {
      audio, canvas, head, track, view, zoomIn, zoomOut, A: side("A"), B: side("B"), zoom: 1, gain: 1, peaks: [],
      volume: audio.volume, isPlaced: false, note: element("p", "mg-note", { role: "status" }),
    };
    const [bar, zooms] = [element("div", "mg-bar"), element("div", "mg-zooms")];
    audio.before(view);
    audio.after(bar);
    zooms.append(zoomOut, zoomIn);
    view.after(zooms);
    bar.append(audio, player.A, player.B);
    bar.after(player.note);
    return player;
  }

  // Long lists load only what is seen.
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      loadPeaks(target);
    }
  }, { rootMargin: "300px" });
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) draw(target.closest(".sound"));
  });

  function upgrade(sound) {
    const player = build(sound);
    const { audio } = player;
    players.set(sound, player);
    sound.classList.add("mg");
    audio.addEventListener("play", () => started(sound));
    audio.addEventListener("seeking", () => { player.isPlaced = true; });
    audio.addEventListener("pause", () => { player.isPlaced = false; });
    audio.addEventListener("volumechange", () => volumeChanged(player));
    audio.addEventListener("error", () => report(sound, "This sound cannot be loaded."));
    for (const name of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(name, () => show(sound));
    seekByPointer(sound);
    resized.observe(player.canvas);
    seen.observe(sound);
    show(sound);
  }

  /** Upgrades every `.sound` in `root`, or `root` itself; those that are upgraded already stay as they are. */
  function mount(root = document) {
    const found = [...root.querySelectorAll(".sound:not(.mg)")];
    if (root instanceof Element && root.matches(".sound:not(.mg)")) found.push(root);
    found.filter((sound) => sound.querySelector("audio")).forEach(upgrade);
    pairChanged();
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => mounted().forEach(draw));
  document.addEventListener("keydown", key);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => mount());
  else mount();
  return { mount, choose, hear, seek };
})();
