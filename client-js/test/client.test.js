import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { ConnectionFailedError, Server, ServerError, connect } from "../src/index.js";
import { Network, failure, final } from "./scripted.js";

let opened;

function client(network, options = {}) {
  opened = connect("ws://127.0.0.1:8765", { WebSocket: network.WebSocket, ...options });
  return opened;
}

afterEach(() => opened.close());

test("iterating gives the events up to the last one", async () => {
  const network = new Network();
  const states = [];
  const listener = client(network, { onState: ({ name }) => states.push(name) });
  network.ready();
  await listener.send(new Int16Array(16000));
  await listener.flush();
  await listener.stop();
  const socket = network.last;
  assert.deepEqual(socket.said, ["start", "flush", "stop"]);
  const texts = [];
  socket.say(final(0, 0, 1, "one"));
  for await (const event of listener) {
    texts.push(event.text ?? event.type);
    if (event.text === "one") socket.say(final(1, 1, 2, "two"), { type: "done", duration: 1 });
  }
  assert.deepEqual(texts, ["one", "two", "done"]);
  assert.deepEqual(states, ["connected", "ended"]);
  await assert.rejects(listener.send(new Uint8Array(2)), /the session has ended/);
});

test("sending waits for the server, and keeps the order", async () => {
  const network = new Network();
  const listener = client(network);
  const socket = network.ready();
  const pieces = [1, 2, 3].map((value) => new Uint8Array(1 << 20).fill(value).buffer);
  const sent = Promise.all(pieces.map((piece) => listener.send(piece)));
  for (let acknowledged = 0; acknowledged < 3 << 20; ) {
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(socket.audio.length - acknowledged <= (1 << 20) + (1 << 16));
    acknowledged = socket.audio.length;
    socket.say({ type: "acknowledged", bytes: acknowledged });
  }
  await sent;
  assert.deepEqual(socket.audio, Buffer.concat(pieces.map((piece) => Buffer.from(piece))));
});

test("a refusal comes out of the iteration, after the events before it", async () => {
  const network = new Network();
  const listener = client(network);
  network.ready().say(final(0, 0, 1, "one"), failure("unsupported", "no such rate"));
  network.last.end(1003);
  assert.equal((await listener.next()).value.text, "one");
  await assert.rejects(listener.next(), (error) => error instanceof ServerError && error.code === "unsupported");
  await assert.rejects(listener.stop(), ServerError);
});

for (const [name, condition, message] of [
  ["an unreachable server", "unreachable", "The server cannot be reached."],
  ["a wrong token", "unauthorized", "the server asks for a token that it knows"],
]) {
  test(`${name} is an error`, async (context) => {
    const network = new Network();
    context.mock.method(Server.prototype, "condition", async () => condition);
    const listener = client(network, { patience: 0.01 });
    network.last.end();
    await assert.rejects(listener.next(), new ConnectionFailedError(message));
  });
}

test("closing lets go of the connection", async () => {
  const network = new Network();
  const listener = client(network);
  const socket = network.ready();
  listener.close();
  assert.equal(socket.closed, 1000);
  assert.deepEqual(await listener.next(), { done: true, value: undefined });
});
