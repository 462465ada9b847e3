import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { Server } from "../src/server.js";
import { Network } from "./scripted.js";

const { WebSocket } = new Network();
/** @type {import("node:http").Server} */
let http;
let root;
/** What is said about the server's readiness. */
let readiness = [200, JSON.stringify({ status: "ready", places: 3 })];

before(async () => {
  http = createServer((request, response) => {
    const known = request.headers.authorization === "Bearer right";
    const info = JSON.stringify({ model: "m", languages: ["en"] });
    const [status, body] = request.url === "/base/readyz" ? readiness : [known ? 200 : 401, info];
    response.writeHead(status).end(body);
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  root = `ws://127.0.0.1:${http.address().port}/base`;
});

after(() => {
  http.close();
  http.closeAllConnections();
});

test("addresses of all four kinds lead below the server's path", () => {
  for (const [given, opened] of [
    ["ws://host:1/base?x#y", "ws://host:1/base/v1/stream"],
    ["https://host/", "wss://host/v1/stream"],
    ["wss://host", "wss://host/v1/stream"],
  ]) {
    assert.equal(new Server(given, { WebSocket }).openSession().url, opened);
  }
  assert.throws(() => new Server("ftp://host", { WebSocket }), /allowed: ws:\/\/, wss:\/\/, http:\/\/ and https:\/\//);
  assert.throws(() => new Server("ws://host", { WebSocket: null }), /there is no WebSocket here/);
});

test("a token is shown as a subprotocol, or in the address if it cannot be one", () => {
  const server = new Server("ws://host", { WebSocket, token: "abc" });
  assert.deepEqual(server.openSession().protocols, ["parastream.v1", "parastream.token.abc"]);
  server.token = "a b";
  const socket = server.openSession();
  assert.deepEqual([socket.protocols, socket.url], [["parastream.v1"], "ws://host/v1/stream?token=a+b"]);
});

test("the condition says why there is no connection", async () => {
  const server = new Server(root, { WebSocket, token: "right" });
  assert.equal(await server.condition(), "ready");
  for (const [status, body, condition] of [
    [200, { status: "ready", places: 0 }, "full"],
    [200, { status: "ready" }, "ready"], // as older servers say it
    [503, { status: "not ready", reason: "loading the model" }, "loading"],
    [503, { status: "not ready", reason: "shutting down" }, "stopping"],
    [503, { status: "not ready", reason: "the engine has failed" }, "unready"],
  ]) {
    readiness = [status, JSON.stringify(body)];
    assert.equal(await server.condition(), condition);
  }
  readiness = [502, "<h1>Bad Gateway</h1>"]; // of a proxy
  assert.equal(await server.condition(), "unready");
  server.token = "wrong";
  assert.equal(await server.condition(), "unauthorized");
  assert.deepEqual(await server.info(), { model: null, languages: null });
  server.token = "right";
  assert.deepEqual(await server.info(), { model: "m", languages: ["en"] });
  const nowhere = new Server("ws://127.0.0.1:1", { WebSocket });
  assert.equal(await nowhere.condition(), "unreachable");
  assert.deepEqual(await nowhere.info(), { model: null, languages: null });
});
