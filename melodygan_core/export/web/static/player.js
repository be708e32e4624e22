// An AudioWorklet that plays what the worker sends, block after block without gaps.

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.blocks = []; this.at = 0; this.played = 0; this.reported = 0; this.piece = 0;
    this.port.onmessage = ({ data }) => {
      this.source = data.port;
      this.source.onmessage = (message) => this.receive(message.data);
    };
  }

  receive({ type, piece, channels }) {
    if (type === "clear") {
      this.blocks = []; this.at = 0; this.played = 0; this.reported = 0; this.piece = piece;
    } else if (piece === this.piece) {
      this.blocks.push(channels);
    }
  }

  process(inputs, [output]) {
    for (let n = 0; n < output[0].length; ) {
      const block = this.blocks[0];
      if (!block) break;
      const count = Math.min(output[0].length - n, block[0].length - this.at);
      output.forEach((channel, c) =>
        channel.set(block[Math.min(c, block.length - 1)].subarray(this.at, this.at + count), n));
      n += count; this.at += count; this.played += count;
      if (this.at === block[0].length) { this.blocks.shift(); this.at = 0; }
    }
    // Four times a second the worker learns what it may add.
    if (this.source && this.played - this.reported > sampleRate / 4) {
      this.reported = this.played;
      this.source.postMessage({ piece: this.piece, played: this.played });
    }
    return true;
  }
}

registerProcessor("player", Player);
