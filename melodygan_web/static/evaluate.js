// Evaluate: searches for the training music that is nearest to a sound.
"use strict";

(() => {
  async function refresh(id) {
    const part = document.querySelector(`[data-nearest-of="${CSS.escape(id)}"]`);
    const fresh = (await Studio.fragment(`/evaluate/sounds/${encodeURIComponent(id)}/nearest`)).firstElementChild;
    part.replaceWith(fresh);
    Studio.mount(fresh);
    return fresh;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-find-nearest]");
    if (!button) return;
    const id = button.dataset.findNearest;
    button.disabled = true;
    try {
      const asked = { kind: "nearest", pipeline: button.dataset.pipeline, settings: {}, sounds: { sound: id } };
      await Studio.post("/jobs/submit", asked);
      Studio.announce("The training music is being searched.");
      await refresh(id);
    } catch (error) {
      Studio.toast(error.message);
      button.disabled = false;
    }
  });

  document.addEventListener("studio:job", async ({ detail }) => {
    const card = document.querySelector(`[data-nearest-of] [data-job="${CSS.escape(detail.id)}"]`);
    if (!card || detail.active) return;
    try {
      await refresh(card.closest("[data-nearest-of]").dataset.nearestOf);
    } catch (error) {
      Studio.toast(error.message);
    }
  });
})();
