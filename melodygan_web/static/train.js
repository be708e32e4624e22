// Train: starts and stops runs, and asks for what changes while a training runs.
"use strict";

(() => {
  const EVERY_MS = 4000;
  const shown = document.getElementById("training");
  if (!shown) return;
  const seen = new Map(); // the markup that each part came with: players change theirs

  function parts(element) {
    return new Map([...element.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  }

  for (const [name, part] of parts(shown)) seen.set(name, part.outerHTML);

  function isPlaying(part) {
    return [...part.querySelectorAll("audio")].some((audio) => !audio.paused);
  }

  /** Replaces what is new, but not a part in which somebody listens, or that has the focus and only counts on. */
  function show(fragment) {
    const fresh = parts(fragment);
    for (const [name, part] of fresh) {
      const old = shown.querySelector(`[data-part="${CSS.escape(name)}"]`);
      if (seen.get(name) === part.outerHTML) continue;
      if (!old) {
        shown.prepend(part);
      } else {
        if (isPlaying(old)) continue;
        const open = old.querySelector("details")?.open;
        const focused = old.contains(document.activeElement) && document.activeElement.dataset.train;
        seen.set(name, part.outerHTML);
        old.replaceWith(part);
        if (open) part.querySelector("details")?.setAttribute("open", "");
        if (focused) part.querySelector("[data-train]")?.focus();
        Studio.mount(part);
        continue;
      }
      seen.set(name, part.outerHTML);
    }
    for (const [name, part] of parts(shown)) {
      if (!fresh.has(name)) {
        part.remove();
        seen.delete(name);
      }
    }
  }

  async function poll() {
    if (document.hidden) return;
    try {
      show(await Studio.fragment(shown.dataset.poll));
    } catch {
      // The next answer may come: the server may just be restarted.
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-train]");
    if (!button) return;
    button.disabled = true;
    try {
      await Studio.post(button.dataset.train);
      Studio.announce(button.textContent.trim() === "Stop" ? "The run is being stopped." : "The run was started.");
      await poll();
    } catch (error) {
      Studio.toast(error.message);
    } finally {
      button.disabled = false;
    }
  });

  setInterval(poll, EVERY_MS);
})();
