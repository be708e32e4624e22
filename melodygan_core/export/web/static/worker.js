// Makes the sound in a thread of its own, a little ahead of what is played.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { Engine } from "./engine.js";
import { load } from "./networks.js";
import { encodeWav, History } from "./wav.js";

// Sound that waits to be played, and the part of it that is made at once.
const AHEAD_S = 12, BLOCK_S = 4, FIRST_BLOCK_S = 1, RECORDED_S = 60;

let manifest, networks, engine, port, history;
// The number of the piece: what a replaced piece still makes is not played.
let piece = 0, sent = 0, played = 0, running = false;

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("./ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };

async function open() {
  manifest = await (await fetch(new URL("models/export.json", import.meta.url))).json();
  let bytes = 0;
  networks = await load(ort, manifest, import.meta.url, (more) => {
    bytes += more;
    postMessage({ type: "loaded", bytes });
  });
  postMessage({ type: "ready", sampleRate: manifest.feature.sample_rate, channels: manifest.feature.channels });
}

function start(settings) {
  piece++;
  engine = new Engine(manifest, networks, settings);
  history = new History(RECORDED_S * engine.sampleRate, engine.channels);
  sent = played = 0;
  port.postMessage({ type: "clear", piece });
  fill();
}

/** Makes sound until enough waits; the one loop of the worker. */
async function fill() {
  if (running) return;
  running = true;
  try {
    while (engine && sent - played < AHEAD_S * engine.sampleRate) {
      const current = piece, rate = engine.sampleRate, began = performance.now();
      const frames = Math.ceil(((sent === 0 ? FIRST_BLOCK_S : BLOCK_S) * rate) / engine.hop);
      const channels = await engine.next(frames);
      if (current !== piece) continue;
      const samples = frames * engine.hop;
      history.add(channels);
      sent += samples;
      postMessage({ type: "made", seconds: samples / rate, took: (performance.now() - began) / 1000 });
      port.postMessage({ type: "sound", piece, channels }, channels.map((x) => x.buffer));
      // Messages, such as the wish for another piece, come in between.
      await new Promise((done) => setTimeout(done));
    }
  } finally {
    running = false;
  }
}

const answers = {
  port: ({ value }) => {
    port = value;
    port.onmessage = ({ data }) => {
      if (data.piece !== piece) return;
      played = data.played;
      fill().catch(failed);
    };
  },
  start: ({ settings }) => start(settings),
  record: ({ gain }) => {
    const wav = encodeWav(history.last(sent - played), manifest.feature.sample_rate, gain);
    postMessage({ type: "recorded", wav }, [wav]);
  },
};

function failed(error) { postMessage({ type: "failed", message: String(error?.message ?? error) }); }

onmessage = ({ data }) => {
  try {
    answers[data.type](data);
  } catch (error) {
    failed(error);
  }
};
open().catch(failed);
