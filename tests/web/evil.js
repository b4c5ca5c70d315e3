// All that a page can try on a server that is not its own. What is given: `base`, the server; `body`, an export
// request. What comes back: for each attempt "error" or "opaque" where nothing was read, "sent" where nothing can be,
// else what was read; and `posts`, how many of the attempts to write a browser sends without asking first.
async ({ base, body }) => {
  const found = {};
  let posts = 0;
  const paths = ["/runs", "/runs/run-1", "/runs/run-1/events", "/events", "/healthz", "/openapi.json", "/"];

  const attempt = async (name, work) => {
    const late = new Promise((resolve) => setTimeout(() => resolve("no answer"), 20000));
    try {
      found[name] = await Promise.race([work(), late]);
    } catch (error) {
      found[name] = "error";
    }
  };

  const answer = async (response) => {
    if (response.type === "opaque") return `opaque${await response.text()}`;
    const reader = response.body.getReader();
    const { value } = await reader.read();
    reader.cancel();
    return `${response.status} ${new TextDecoder().decode(value)}`;
  };

  const loads = (tag, attributes) =>
    new Promise((resolve) => {
      const element = Object.assign(document.createElement(tag), attributes);
      element.onload = element.oncanplay = () => resolve(`loaded ${element.naturalWidth ?? ""}`);
      element.onerror = () => resolve("error");
      document.body.append(element);
    });

  for (const path of paths)
    for (const credentials of ["include", "omit"])
      for (const mode of ["cors", "no-cors"])
        await attempt(`GET ${path} ${mode} ${credentials}`, async () =>
          answer(await fetch(base + path, { mode, credentials, cache: "no-store" })),
        );
  for (const [name, value] of [["Authorization", "Bearer guess"], ["Last-Event-ID", "1-1"], ["Accept", "text/html"]])
    await attempt(`GET with ${name}`, async () => answer(await fetch(`${base}/runs`, { headers: { [name]: value } })));
  for (const method of ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
    await attempt(method, async () => answer(await fetch(`${base}/runs`, { method })));

  for (const path of ["/events", "/runs/run-1/events"])
    for (const withCredentials of [false, true])
      await attempt(`EventSource ${path} ${withCredentials}`, () =>
        new Promise((resolve) => {
          const source = new EventSource(base + path, { withCredentials });
          source.onmessage = (event) => resolve(`message ${event.data}`);
          source.onopen = () => resolve("open");
          source.onerror = () => (source.close(), resolve("error"));
        }),
      );
  await attempt("WebSocket", () =>
    new Promise((resolve) => {
      const socket = new WebSocket(`${(base || location.origin).replace("http", "ws")}/events`);
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("error");
    }),
  );

  for (const path of ["/runs", "/assets/app.js", "/assets/early.js", "/openapi.json"]) {
    await attempt(`script ${path}`, () => loads("script", { src: base + path }));
    await attempt(`module ${path}`, () => loads("script", { src: base + path, type: "module" }));
    await attempt(`import ${path}`, async () => JSON.stringify(await import((base || location.origin) + path)));
  }
  await attempt("style", () => loads("link", { rel: "stylesheet", href: `${base}/assets/style/base.css` }));
  for (const path of ["/assets/icon.svg", "/runs"])
    for (const crossOrigin of [null, "use-credentials"])
      await attempt(`image ${path} ${crossOrigin}`, () => loads("img", { src: base + path, crossOrigin }));
  await attempt("video", () => loads("video", { src: `${base}/events` }));

  const writes = {
    text: { headers: { "Content-Type": "text/plain" }, body },
    json: { headers: { "Content-Type": "application/json" }, body },
    "no-cors text": { mode: "no-cors", body },
    "no-cors json": { mode: "no-cors", headers: { "Content-Type": "application/json" }, body },
    "no-cors blob": { mode: "no-cors", body: new Blob([body], { type: "application/json" }) },
    "no-cors blob without a type": { mode: "no-cors", body: new Blob([body]) },
    "no-cors bytes": { mode: "no-cors", body: new TextEncoder().encode(body) },
    "no-cors fields": { mode: "no-cors", body: new URLSearchParams({ body }) },
    "no-cors keepalive": { mode: "no-cors", keepalive: true, body },
    "no-cors cookies": { mode: "no-cors", credentials: "include", body },
    protobuf: { headers: { "Content-Type": "application/x-protobuf" }, body: new Uint8Array([10, 0]) },
  };
  for (const [name, options] of Object.entries(writes)) {
    posts += options.mode === "no-cors" || name === "text" ? 1 : 0;
    await attempt(`POST ${name}`, async () => answer(await fetch(`${base}/v1/logs`, { method: "POST", ...options })));
  }
  await attempt("POST /token", async () =>
    answer(await fetch(`${base}/token`, { method: "POST", mode: "no-cors", body: '{"code":"guess"}' })),
  );
  const beacons = [body, new Blob([body], { type: "text/plain" }), new URLSearchParams({ body }), new FormData()];
  for (const [number, data] of beacons.entries()) {
    posts += 1;
    await attempt(`beacon ${number}`, async () => (navigator.sendBeacon(`${base}/v1/logs`, data), "sent"));
  }
  await attempt("beacon json", async () => {
    navigator.sendBeacon(`${base}/v1/logs`, new Blob([body], { type: "application/json" }));
    return "sent";
  });

  // A form's field becomes JSON in `text/plain`, as `name=value` with an equals sign within a text.
  for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
    posts += 1;
    await attempt(`form ${enctype}`, () =>
      new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.name = `frame-of-${enctype}`;
        document.body.append(frame);
        const form = document.createElement("form");
        Object.assign(form, { action: `${base}/v1/logs`, method: "POST", enctype, target: frame.name });
        const field = document.createElement("input");
        field.name = `${body.slice(0, -1)},"x":"`;
        field.value = '"}';
        form.append(field);
        document.body.append(form);
        frame.onload = () => resolve("sent");
        form.submit();
      }),
    );
  }

  const messages = [];
  addEventListener("message", (event) => messages.push(event.data));
  for (const path of ["/", "/runs/run-1", "/runs"])
    await attempt(`iframe ${path}`, () =>
      new Promise((resolve) => {
        const frame = Object.assign(document.createElement("iframe"), { src: base + path });
        frame.onload = () => {
          let text = "";
          try {
            frame.contentWindow.postMessage({ code: "give" }, "*");
            text = frame.contentDocument?.documentElement?.textContent ?? "";
          } catch {}
          resolve(text ? `read ${text}` : "error");
        };
        document.body.append(frame);
      }),
    );
  for (const path of ["/", "/runs/run-1"])
    await attempt(`window ${path}`, async () => {
      const opened = open(base + path, "_blank");
      opened.postMessage({ code: "give" }, "*");
      return "sent";
    });
  found.messages = messages.length ? JSON.stringify(messages) : "error";
  return { found, posts };
};
