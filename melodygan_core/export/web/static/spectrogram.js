// A spectrogram that moves while the sound plays: low notes below, logarithmic.

const LOWEST_HZ = 40, QUIETEST_DB = -95, LOUDEST_DB = -25;

export function draw(canvas, analyser) {
  const context = canvas.getContext("2d", { alpha: false }), { width, height } = canvas;
  const levels = new Float32Array(analyser.frequencyBinCount);
  const nyquist = analyser.context.sampleRate / 2, column = context.createImageData(2, height);
  const bins = Array.from({ length: height }, (_, y) => {
    const frequency = LOWEST_HZ * (nyquist / LOWEST_HZ) ** ((height - 1 - y) / (height - 1));
    return Math.min(Math.round((frequency / nyquist) * levels.length), levels.length - 1);
  });
  const step = () => {
    requestAnimationFrame(step);
    if (analyser.context.state !== "running" || document.hidden) return;
    analyser.getFloatFrequencyData(levels);
    bins.forEach((bin, y) => {
      const level = Math.min(Math.max((levels[bin] - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB), 0), 1);
      for (let x = 0; x < 2; x++) column.data.set([255 * level ** 0.7, 220 * level ** 1.6, 90 * level + 25, 255], 4 * (2 * y + x));
    });
    context.drawImage(canvas, -2, 0);
    context.putImageData(column, width - 2, 0);
  };
  step();
}
