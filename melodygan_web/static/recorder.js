// Recording from the microphone. Nothing leaves this machine: the recording is uploaded to the studio like a file.
"use strict";

const Recorder = (() => {
  // As long as an upload may be.
  const MOST_S = 1200;
  let active = null;

  function name() {
    const now = new Date();
    const two = (value) => String(value).padStart(2, "0");
    return `Recording ${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())} ${two(now.getHours())}.${two(now.getMinutes())}.${two(now.getSeconds())}`;
  }

  function sentence(error) {
    if (error.name === "NotAllowedError") return "The browser does not let this page use the microphone: allow it beside the address.";
    if (error.name === "NotFoundError") return "No microphone was found.";
    return `The microphone cannot be used: ${error.message}`;
  }

  /**
   * Starts to record.
   *
   * @param {(seconds: number, level: number) => void} report is called ten times a second; the level is a peak from 0 to 1.
   * @returns {Promise<{stop: () => Promise<File>}>} what ends it and has the recording.
   */
  async function start(report) {
    if (active) throw new Error("Something is being recorded already: stop that first.");
    if (!navigator.mediaDevices || typeof MediaRecorder === "undefined") {
      throw new Error("This browser cannot record, or the page is not on this machine or under https.");
    }
    let stream;
    try {
      // As it sounds: what is made for speech would take music for noise.
      const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new Error(sentence(error));
    }
    const recorder = new MediaRecorder(stream);
    const parts = [];
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    const context = new AudioContext();
    const meter = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(meter);
    const values = new Float32Array(meter.fftSize);
    const startedAt = performance.now();
    const ended = new Promise((done) => { recorder.addEventListener("stop", done); });
    const timer = setInterval(() => {
      meter.getFloatTimeDomainData(values);
      const seconds = (performance.now() - startedAt) / 1000;
      report(seconds, values.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
      if (seconds >= MOST_S && recorder.state === "recording") recorder.stop();
    }, 100);
    recorder.start(1000);
    active = {
      async stop() {
        if (recorder.state === "recording") recorder.stop();
        await ended;
        clearInterval(timer);
        for (const track of stream.getTracks()) track.stop();
        await context.close();
        active = null;
        const suffix = recorder.mimeType.includes("mp4") ? "mp4" : recorder.mimeType.includes("ogg") ? "ogg" : "webm";
        return new File(parts, `${name()}.${suffix}`, { type: recorder.mimeType });
      },
    };
    return active;
  }

  return { start };
})();
