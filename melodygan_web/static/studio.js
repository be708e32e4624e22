// What every screen shares: requests with the session's token, progress of jobs, stars, selection, messages.
// Screens use `Studio.post`, `Studio.upload`, `Studio.toast`, `Studio.announce`, `Studio.mount` and the event
// `studio:job`, whose detail is what Job.to_event returns.
"use strict";

const Studio = (() => {
  const root = document.documentElement.dataset.root;
  const tokenTag = document.querySelector('meta[name="csrf-token"]');

  async function renewToken() {
    const answer = await fetch(`${root}/session`, { cache: "no-store" });
    tokenTag.content = (await answer.json()).csrf_token;
  }

  async function send(url, options, again = true) {
    options.headers["X-CSRF-Token"] = tokenTag.content;
    let answer;
    try {
      answer = await fetch(url, options);
    } catch {
      throw new Error("The server does not answer: is it running?");
    }
    const type = answer.headers.get("Content-Type") || "";
    const value = type.startsWith("application/json") ? await answer.json() : { error: await answer.text() };
    // The server was restarted since the page was loaded.
    if (answer.status === 403 && value.code === "token" && again) {
      await renewToken();
      return send(url, options, false);
    }
    if (!answer.ok) throw new Error(value.error || `The server answered ${answer.status}.`);
    return value;
  }

  function post(path, data = {}) {
    const headers = { "Content-Type": "application/json" };
    return send(path.startsWith(root) ? path : root + path, { method: "POST", headers, body: JSON.stringify(data) });
  }

  function upload(file) {
    const headers = { "Content-Type": "application/octet-stream", "X-File-Name": encodeURIComponent(file.name) };
    return send(`${root}/uploads`, { method: "POST", headers, body: file });
  }

  async function fragment(path) {
    const answer = await fetch(root + path, { cache: "no-store" });
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    return holder.content;
  }

  function announce(text) {
    document.getElementById("announcements").textContent = text;
  }

  function toast(text, kind = "error") {
    const note = document.createElement("div");
    note.className = `toast ${kind}`;
    note.textContent = text;
    document.getElementById("toasts").append(note);
    announce(text);
    setTimeout(() => note.remove(), 8000);
  }

  function mount(element) {
    // A global constant of player.js, which is no property of window.
    if (typeof MelodyganPlayer !== "undefined") MelodyganPlayer.mount(element);
    restorePicks(element);
    // What happened while the card was under way.
    for (const card of element.querySelectorAll("[data-job]")) {
      const job = latest.get(card.dataset.job);
      if (job) showCard(card, job);
    }
  }

  // Jobs.

  const latest = new Map(); // the newest event of each job

  const active = new Set([...document.querySelectorAll("[data-job]")].filter(isActive).map((e) => e.dataset.job));

  function isActive(element) {
    return ["queued", "running", "stopping"].includes(element.dataset.state);
  }

  function showCount() {
    for (const badge of document.querySelectorAll("[data-active-jobs]")) {
      badge.textContent = active.size || "";
      badge.hidden = !active.size;
    }
  }

  /** Shows what an event says of a job; an answer that was overtaken by a later event changes nothing. */
  function showJob(job) {
    if (latest.has(job.id) && latest.get(job.id).change >= job.change) return;
    latest.set(job.id, job);
    active[job.active ? "add" : "delete"](job.id);
    showCount();
    for (const card of document.querySelectorAll(`[data-job="${CSS.escape(job.id)}"]`)) showCard(card, job);
    document.dispatchEvent(new CustomEvent("studio:job", { detail: job }));
  }

  function showCard(card, job) {
    if (Number(card.dataset.change) >= job.change) return;
    card.dataset.change = job.change;
    if (card.dataset.state !== job.state) announce(job.label);
    card.dataset.state = job.state;
    card.querySelector("[data-job-progress]").value = job.percent;
    card.querySelector("[data-job-percent]").textContent = job.percent;
    card.querySelector("[data-job-label]").textContent = job.label;
    for (const button of card.querySelectorAll("[data-when]")) button.hidden = !job[button.dataset.when];
    addSounds(card);
  }

  async function addSounds(card) {
    const list = card.querySelector("[data-job-sounds]");
    if (!list || card.dataset.loading) return;
    card.dataset.loading = "1";
    try {
      // More may be made while they are loaded.
      for (let shown = Number(card.dataset.made); shown < latest.get(card.dataset.job).made;) {
        const made = await fragment(`/jobs/${card.dataset.job}/sounds?after=${shown}`);
        const count = made.querySelectorAll(".sound-card").length;
        list.append(made);
        // Those that were erased are counted, and not shown.
        shown = Math.max(shown + count, latest.get(card.dataset.job).made);
        card.dataset.made = shown;
        mount(list);
      }
    } catch (error) {
      toast(error.message);
    } finally {
      delete card.dataset.loading;
    }
  }

  let lastEvent = document.querySelector('meta[name="events-after"]').content;
  let source = null;

  function follow() {
    if (source || document.hidden) return;
    // When the connection is lost, the browser reconnects by itself and names the last event that it got.
    source = new EventSource(`${root}/events?after=${encodeURIComponent(lastEvent)}`);
    source.addEventListener("job", (event) => {
      lastEvent = event.lastEventId;
      showJob(JSON.parse(event.data));
    });
  }

  function unfollow() {
    source?.close();
    source = null;
  }

  // A browser opens six connections to one server: tabs that are not looked at must not hold them.
  document.addEventListener("visibilitychange", () => (document.hidden ? unfollow() : follow()));
  addEventListener("pagehide", unfollow);
  addEventListener("pageshow", (event) => event.persisted && follow());

  // Buttons: a star, and a request that a button names.

  async function toggleStar(button) {
    const starred = button.getAttribute("aria-pressed") !== "true";
    try {
      await post(`/sounds/${button.dataset.star}/star`, { starred });
    } catch (error) {
      return toast(error.message);
    }
    for (const same of document.querySelectorAll(`[data-star="${CSS.escape(button.dataset.star)}"]`)) {
      same.setAttribute("aria-pressed", String(starred));
    }
    announce(starred ? "Starred" : "Star removed");
  }

  async function postButton(button) {
    button.disabled = true;
    try {
      const answer = await post(button.dataset.post);
      if (answer.id && answer.state) showJob(answer);
    } catch (error) {
      toast(error.message);
    } finally {
      button.disabled = false;
    }
  }

  document.addEventListener("click", (event) => {
    const star = event.target.closest("[data-star]");
    if (star) toggleStar(star);
    const button = event.target.closest("[data-post]");
    if (button) postButton(button);
    const clear = event.target.closest("[data-clear-picks]");
    if (clear) clearPicks();
  });

  // Selection of several sounds.

  const picks = new Set();

  function showPicks() {
    const bar = document.querySelector("[data-pick-bar]");
    if (!bar) return;
    bar.hidden = picks.size === 0;
    bar.querySelector("[data-pick-count]").textContent = picks.size;
    bar.querySelector("[data-pick-download]").href = `${root}/sounds.zip?ids=${[...picks].join(",")}`;
  }

  function restorePicks(element) {
    for (const box of element.querySelectorAll("[data-pick]")) box.checked = picks.has(box.dataset.pick);
  }

  function clearPicks() {
    picks.clear();
    restorePicks(document);
    showPicks();
  }

  document.addEventListener("change", (event) => {
    const box = event.target.closest("[data-pick]");
    if (!box) return;
    picks[box.checked ? "add" : "delete"](box.dataset.pick);
    showPicks();
  });

  // htmx: parts that it loads get players, and what it posts is JSON with the token.

  document.addEventListener("htmx:afterSwap", (event) => mount(event.target));
  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRF-Token"] = tokenTag.content;
  });
  document.addEventListener("htmx:responseError", (event) => {
    let sentence = `The server answered ${event.detail.xhr.status}.`;
    try {
      sentence = JSON.parse(event.detail.xhr.responseText).error || sentence;
    } catch { /* Not JSON: the status says enough. */ }
    toast(sentence);
  });

  document.addEventListener("DOMContentLoaded", () => {
    if (window.htmx) {
      htmx.defineExtension("json", {
        onEvent: (name, event) => {
          if (name === "htmx:configRequest") event.detail.headers["Content-Type"] = "application/json";
        },
        encodeParameters: (xhr, parameters) => JSON.stringify(Object.fromEntries(parameters)),
      });
    }
    document.documentElement.classList.add("scripted");
    mount(document);
    showCount();
    follow();
  });

  return { root, post, upload, fragment, announce, toast, mount, showJob };
})();
window.Studio = Studio;
