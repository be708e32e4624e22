// The page: its controls, the sound's way from the worker to the speakers, and what it shows.

import { draw } from "./spectrogram.js";

const element = (id) => document.getElementById(id);
const state = { made: 0, took: 0, firstSound: null };
let worker, context, gain, gainDb = 0, ready = null, playing = false;
const opened = performance.now();

function show(text) { element("status").textContent = text; }

function failed(message) {
  show(`This release cannot be played: ${message}`);
  element("play").disabled = true;
}

function settings() {
  const seed = Math.trunc(Number(element("seed").value));
  const condition = element("condition");
  return {
    seed: Number.isSafeInteger(seed) && seed >= 0 ? seed : 0,
    ...(condition ? { condition: Number(condition.value) } : {}),
  };
}

/** The audio graph; browsers allow it only after a click. */
async function connect() {
  context = new AudioContext({ sampleRate: ready.sampleRate });
  await context.audioWorklet.addModule("player.js");
  const player = new AudioWorkletNode(context, "player", { outputChannelCount: [ready.channels] });
  const { port1, port2 } = new MessageChannel();
  player.port.postMessage({ port: port1 }, [port1]);
  worker.postMessage({ type: "port", value: port2 }, [port2]);
  gain = new GainNode(context, { gain: 10 ** (gainDb / 20) });
  // Nothing is clipped if a piece becomes louder than the one that the gain was measured with.
  const limiter = new DynamicsCompressorNode(context, { threshold: -3, knee: 0, ratio: 20, attack: 0.002, release: 0.2 });
  const analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0.3 });
  player.connect(gain).connect(limiter).connect(analyser).connect(context.destination);
  draw(element("spectrogram"), analyser);
  state.analyser = analyser;
  start();
}

function start() {
  state.made = state.took = 0;
  state.firstSound = null;
  state.started = performance.now();
  show("Making the first seconds ...");
  worker.postMessage({ type: "start", settings: settings() });
}

async function toggle() {
  playing = !playing;
  element("play").textContent = playing ? "Pause" : "Play";
  element("play").setAttribute("aria-pressed", String(playing));
  if (!context) await connect();
  await (playing ? context.resume() : context.suspend());
}

const messages = {
  loaded: ({ bytes }) => show(`Loading: ${(bytes / 1e6).toFixed(0)} MB`),
  ready: (message) => {
    ready = message;
    state.ready = performance.now() - opened;
    element("play").disabled = false;
    show("Ready.");
  },
  made: ({ seconds, took }) => {
    state.firstSound ??= performance.now() - state.started;
    state.made += seconds;
    state.took += took;
    element("record").disabled = false;
    show(`${(state.made / state.took).toFixed(1)} times as fast as it plays`);
  },
  recorded: ({ wav }) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([wav], { type: "audio/wav" }));
    link.download = `radio-seed-${settings().seed}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  },
  failed: ({ message }) => failed(message),
};

async function main() {
  if (location.protocol === "file:") {
    failed("open it through a web server, such as `python -m http.server` in its folder");
    return;
  }
  gainDb = (await (await fetch("radio.json")).json()).gain_db;
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => messages[data.type](data);
  worker.onerror = (event) => failed(event.message ?? "its worker did not load");
  element("play").onclick = () => toggle().catch((error) => failed(error.message));
  for (const id of ["seed", "condition"]) if (element(id)) element(id).onchange = () => context && start();
  element("random").onclick = () => {
    element("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);
    if (context) start();
  };
  element("record").onclick = () => worker.postMessage({ type: "record", gain: gain.gain.value });
}

// For the tests and the benchmark.
window.radioState = state;
main().catch((error) => failed(error.message));
