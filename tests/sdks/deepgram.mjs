// Live and conversational transcription by Deepgram's client; prints each final text as a line.
import { readFile } from "node:fs/promises";
import { DeepgramClient } from "@deepgram/sdk";

const [url, version, file] = process.argv.slice(2);
const environment = { base: url.replace("ws", "http"), production: url, agent: url, agentRest: url };
const client = new DeepgramClient({ apiKey: "any", environment });
const audio = { encoding: "linear16", sample_rate: 16000 };
const connection =
  version === "v1"
    ? await client.listen.v1.connect({ model: "nova-3", ...audio, reconnectAttempts: 0 })
    : await client.listen.v2.connect({ model: "flux-general-en", ...audio, reconnectAttempts: 0 });
const closed = new Promise((resolve, reject) => {
  connection.on("close", resolve);
  connection.on("error", reject);
});
connection.on("message", (message) => {
  if (message.type === "Results" && message.is_final) console.log(message.channel.alternatives[0].transcript);
  if (message.type === "TurnInfo" && message.event === "EndOfTurn") console.log(message.transcript);
});
connection.connect();
await connection.waitForOpen();
connection.sendMedia(await readFile(file));
connection.sendCloseStream({ type: "CloseStream" });
await closed;
