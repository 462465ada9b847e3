import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Session } from "../src/session.js";
import { Network, failure, final, started } from "./scripted.js";

const RATE = 8000;
const SECOND = 2 * RATE;

/** @type {Network} */
let network;
/** @type {Session} */
let session;
/** Events in their order. */
let heard;

function begin(options = {}) {
  session = new Session(network.server(), { rate: RATE, ...options });
  for (const type of ["speech_started", "partial", "speech_ended", "final", "flushed", "done", "forgotten", "lost"]) {
    session.on(type, (event) => heard.push(event));
  }
  return session;
}

/** Seconds of audio whose samples are all the same. */
function seconds(count, value = 1) {
  return new Int16Array(count * RATE).fill(value);
}

beforeEach(() => {
  network = new Network();
  heard = [];
  mock.restoreAll();
  mock.timers.reset();
  // No test waits: attempts to connect again are made when a test says so.
  mock.timers.enable({ apis: ["setTimeout"] });
});

test("a session asks for what it is given, and sends what it has", () => {
  begin({ room: "hall", itn: true });
  session.send(seconds(1).buffer);
  assert.deepEqual(network.last.sent, []);
  const socket = network.ready();
  assert.deepEqual(socket.sent[0], { type: "start", format: "s16le", rate: RATE, channels: 1, room: "hall", itn: true });
  assert.equal(socket.audio.length, SECOND);
  assert.equal(session.state.name, "connected");
});

test("audio is copied, and cut into messages that servers take", () => {
  begin();
  const socket = network.ready();
  const audio = seconds(10);
  session.send(audio.subarray(RATE));
  audio.fill(9);
  assert.equal(socket.audio.length, 9 * SECOND);
  assert.ok(socket.sent.slice(1).every((data) => data.byteLength <= 65536));
  assert.equal(socket.audio.readInt16LE(0), 1);
});

test("events have the times and numbers of the recording over sessions of the server", async () => {
  begin({ offset: 100 });
  session.send(seconds(4));
  network.ready().say(started(0, 0.5), final(0, 0.5, 2), started(1, 2.5), failure("session_too_long"));
  network.last.end(1008);
  const next = await network.opened(2);
  network.ready({ session: "t" });
  assert.equal(next.audio.length, 2 * SECOND); // from the end of the last final
  next.say(started(0, 0.25), final(0, 0.25, 1), { type: "done", duration: 2 });
  assert.deepEqual(heard.filter(({ type }) => type === "final").map(({ utterance, start, end, words }) => [utterance, start, end, words[0].end]), [
    [0, 100.5, 102, 102],
    [2, 102.25, 103, 103],
  ]);
  assert.deepEqual(heard.filter(({ type }) => type === "forgotten"), [{ type: "forgotten", utterances: [1] }]);
  assert.deepEqual(heard.at(-1), { type: "done", duration: 104 });
  assert.equal(session.state.name, "ended");
});

test("a broken connection is resumed where the server is", async () => {
  begin();
  session.send(seconds(2));
  const first = network.ready();
  first.say({ type: "acknowledged", bytes: SECOND }, started(0, 0));
  session.stop();
  assert.deepEqual(first.said, ["start", "stop"]);
  first.end();
  session.retry();
  await network.opened(2);
  const second = network.ready({ acknowledged: SECOND });
  assert.deepEqual(second.sent[0], { type: "resume", session: "s", received: 1 });
  assert.equal(second.audio.length, SECOND);
  assert.deepEqual(second.said, ["resume", "stop"]);
});

test("a session is resumed on the server that it is on, and begun on any", async () => {
  begin({ room: "hall" });
  network.ready({ instance: "b" });
  network.last.end();
  session.retry();
  await network.opened(2);
  network.last.onopen();
  network.last.say(failure("unknown_session"));
  network.last.end(1008);
  await network.opened(3);
  const queries = network.sockets.map(({ url }) => new URL(url).search);
  assert.deepEqual(queries, ["?room=hall", "?room=hall&on=b", "?room=hall"]);
});

test("flushes stay at their places, and are sent once to each session", async () => {
  begin();
  session.send(seconds(1, 1));
  session.flush();
  session.send(seconds(1, 2));
  session.flush();
  const first = network.ready();
  assert.deepEqual(first.sent.map((data) => data.type ?? data[0]), ["start", 1, "flush", 2, "flush"]);
  first.say({ type: "acknowledged", bytes: SECOND }, { type: "flushed", time: 1, seq: 3 });
  first.end();
  session.retry();
  await network.opened(2);
  const second = network.ready({ acknowledged: SECOND, flushes: 1 });
  assert.deepEqual(second.sent.map((data) => data.type ?? data[0]), ["resume", 2, "flush"]);
  second.say(failure("unknown_session"));
  second.end(1008);
  await network.opened(3);
  const third = network.ready({ session: "t" });
  assert.deepEqual(third.said, ["start", "flush"]);
  third.say({ type: "flushed", time: 2, seq: 3 });
  assert.deepEqual(heard, [{ type: "flushed", time: 1 }, { type: "flushed", time: 2 }]);
});

test("audio of a channel that is still spoken on outlives the finals of others", async () => {
  begin({ channels: 2, channel: "all" });
  session.send(seconds(8)); // four of each
  network.ready().say(started(0, 1), started(1, 0.5, 1), final(0, 1, 3), failure("internal"));
  network.last.end(1011);
  session.retry();
  const next = await network.opened(2);
  network.ready({ session: "t" });
  assert.equal(next.audio.length, 3.5 * 2 * SECOND);
});

test("the oldest audio is given up when there is no connection for too long", () => {
  begin({ offset: 100 });
  for (let index = 0; index < 31; index++) session.send(seconds(10, index));
  assert.deepEqual(heard, [{ type: "lost", start: 100, end: 130 }]);
  network.last.onopen(); // the one that was opened anew
  network.ready();
  assert.equal(network.last.audio.length, 280 * SECOND);
  assert.equal(network.last.audio.readInt16LE(0), 3);
  assert.equal(session.duration, 410);
});

test("a session without audio rests, and goes on with it", async () => {
  const now = mock.method(performance, "now", () => 0);
  begin();
  session.send(seconds(1));
  network.ready().say(started(0, 0), final(0, 0, 1), failure("idle_timeout"));
  now.mock.mockImplementation(() => 60_000);
  network.last.end(1008);
  assert.equal(session.state.name, "resting");
  session.flush();
  assert.deepEqual(heard.at(-1), { type: "flushed", time: 1 });
  session.send(seconds(1));
  await network.opened(2);
  network.ready({ session: "t" }).say(started(0, 0.5));
  assert.deepEqual(heard.at(-1), { type: "speech_started", utterance: 1, time: 1.5, channel: 0 });
  network.last.say(failure("idle_timeout"));
  now.mock.mockImplementation(() => 120_000);
  network.last.end(1008);
  session.stop();
  assert.deepEqual([heard.at(-1), session.state.name], [{ type: "done", duration: 2 }, "ended"]);
  now.mock.restore();
});

test("parts of the recording keep their times", () => {
  begin();
  session.send(seconds(1));
  session.send(seconds(1), 10);
  network.ready().say(final(0, 0, 1), final(1, 1, 2));
  assert.deepEqual(heard.map(({ start, end }) => [start, end]), [[0, 1], [10, 11]]);
  assert.equal(session.duration, 11);
});

test("audio waits here while the network is slow", () => {
  begin();
  const socket = network.ready();
  socket.bufferedAmount = 1 << 20;
  session.send(seconds(1));
  assert.equal(socket.audio.length, 0);
  socket.bufferedAmount = 0;
  mock.timers.tick(50);
  assert.equal(socket.audio.length, SECOND);
  assert.equal(session.pending, SECOND);
});

for (const [name, end, state] of [
  ["an error that would come again", (socket) => socket.say(failure("unknown_model", "no model")), { name: "failed", reason: "The server says: no model", code: "unknown_model" }],
  ["a close that would come again", () => {}, { name: "failed", reason: "gone" }],
]) {
  test(`${name} is the end`, () => {
    begin();
    network.ready();
    end(network.last);
    network.last.end(1008, "gone");
    assert.deepEqual(session.state, state);
  });
}

test("a server that is not there in time is given up", async () => {
  const states = [];
  session = new Session(network.server("unreachable"), { patience: 0.1 });
  session.on("state", (state) => states.push(state.name));
  const failed = new Promise((resolve) => session.on("state", ({ name }) => name === "failed" && resolve()));
  network.last.end();
  await failed;
  assert.deepEqual(session.state, { name: "failed", reason: "The server cannot be reached." });
});

/** A clock that stands still but for `pass`, and delays that are not left to chance. */
function slowly() {
  let now = 0;
  mock.method(performance, "now", () => now);
  mock.method(Math, "random", () => 1);
  return async (seconds) => {
    for (let passed = 0; passed < seconds; passed += 0.25) {
      now += 250;
      mock.timers.tick(250);
      await new Promise(setImmediate);
      if (network.last.closed === null && network.down) network.last.end();
    }
  };
}

/** A server whose condition the test changes. */
function changing(condition) {
  const server = network.server();
  server.is = condition;
  server.condition = async () => server.is;
  return server;
}

test("a server that is away is tried less and less often, and at once when it is back", async () => {
  const pass = slowly();
  const server = changing("unreachable");
  network.down = true;
  session = new Session(server);
  await pass(30);
  assert.equal(network.sockets.length, 1 + 4); // after 0.25, 1.75, 7.75 and 27.75 s
  await pass(3600);
  assert.ok(network.sockets.length > 50 && network.sockets.length <= 5 + 60); // once a minute
  assert.equal(session.state.reason, "The server cannot be reached.");
  const before = network.sockets.length;
  network.down = false;
  server.is = "ready";
  await pass(5);
  assert.equal(network.sockets.length, before + 1);
});

test("a server that is full is not tried before it has a place", async () => {
  const pass = slowly();
  const server = changing("full");
  network.down = true;
  session = new Session(server);
  await pass(600);
  assert.equal(network.sockets.length, 1);
  assert.equal(session.state.reason, "The server is full.");
  network.down = false;
  server.is = "ready";
  await pass(5);
  assert.equal(network.sockets.length, 2);
});

test("whoever comes back to a session asks for no place", async () => {
  const pass = slowly();
  const server = changing("full");
  session = new Session(server);
  network.ready({ session: "a" });
  network.last.end();
  await pass(1);
  assert.equal(network.sockets.length, 2);
  assert.match(network.last.url, /[?]resume=1$/);
});

test("a connection that is not made though the server is there is waited for longer the next time", async () => {
  const pass = slowly();
  const server = changing("ready");
  session = new Session(server);
  for (const [number, seconds] of [10, 20, 40, 80, 80].entries()) {
    assert.equal(network.sockets.length, number + 1);
    const socket = network.last;
    await pass(seconds - 0.25);
    assert.equal(socket.closed, null);
    await pass(0.25);
    assert.equal(socket.closed, 4000);
    while (network.last === socket) await pass(0.25);
  }
  network.ready();
  network.last.end();
  await pass(1);
  await pass(10);
  assert.equal(network.sockets[6].closed, 4000);
});

test("a connection that is not made is not waited for longer than there is patience", async () => {
  const pass = slowly();
  session = new Session(changing("ready"), { patience: 15 });
  await pass(11);
  assert.equal(network.sockets.length, 2);
  await pass(4.5);
  assert.equal(network.last.closed, 4000);
  assert.equal(session.state.name, "failed");
});

test("a connection that takes long to be made is not waited for when there is reason to try again", async () => {
  const pass = slowly();
  session = new Session(changing("ready"));
  const socket = network.last;
  socket.readyState = 0;
  await pass(4);
  session.retry();
  assert.equal(network.sockets.length, 1);
  await pass(0.25);
  session.retry();
  assert.equal(socket.closed, 1000);
  assert.equal(network.sockets.length, 2);
});

test("without patience there is one attempt, which may take its time", async () => {
  const pass = slowly();
  session = new Session(changing("ready"), { patience: 0 });
  await pass(3.75);
  assert.equal(network.last.closed, null);
  await pass(0.5);
  assert.equal(session.state.name, "failed");
  assert.equal(network.sockets.length, 1);
});

test("patience does not run out while a token is waited for", async () => {
  const pass = slowly();
  const server = changing("unauthorized");
  session = new Session(server, { patience: 20 });
  network.last.end();
  await pass(60);
  assert.equal(session.state.name, "unauthorized");
  server.is = "ready";
  session.retry();
  await pass(9);
  assert.equal(network.last.closed, null);
});

test("whoever comes back to a session does not storm a server that is not ready", async () => {
  const pass = slowly();
  const server = changing("ready");
  session = new Session(server);
  network.ready();
  server.is = "unready"; // behind a proxy, which answers for it
  network.down = true;
  network.last.end();
  await pass(600);
  assert.ok(network.sockets.length < 16);
});

test("a token that is asked for is waited for", async () => {
  session = new Session(network.server("unauthorized"));
  const asked = new Promise((resolve) => session.on("state", ({ name }) => name === "unauthorized" && resolve()));
  network.last.end();
  await asked;
  session.retry();
  assert.equal(network.sockets.length, 2);
});

test("a server that is silent is left, with its session kept", () => {
  begin();
  const socket = network.ready();
  mock.timers.tick(40_000);
  assert.equal(socket.closed, 4000);
  assert.equal(session.state.reason, "The server does not answer.");
});

test("nothing is sent after the end", () => {
  begin();
  session.stop();
  session.flush();
  assert.throws(() => session.send(seconds(1)), /send\(\) after stop\(\)/);
  assert.deepEqual(network.ready().said, ["start", "stop"]);
  session.abandon();
  assert.equal(session.state.name, "ended");
});

test("a format that nobody knows is refused", () => {
  assert.throws(() => begin({ format: "encoded" }), /encoded is not supported; allowed: s16le, s24le, s32le, u8, f32le, f64le, mulaw, alaw/);
});
