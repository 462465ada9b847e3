// A conversation by OpenAI's library for voice agents, of which the speaker's part is transcribed; prints its texts,
// once there are as many as are expected.
import { readFile } from "node:fs/promises";
import { RealtimeAgent, RealtimeSession } from "@openai/agents-realtime";

const [url, count, file] = process.argv.slice(2);
const session = new RealtimeSession(new RealtimeAgent({ name: "a" }), { transport: "websocket" });
session.on("error", ({ error }) => {
  throw error;
});
session.on("history_updated", (history) => {
  const texts = history.flatMap(({ content }) => content.map(({ transcript }) => transcript)).filter(Boolean);
  if (texts.length < Number(count)) return;
  console.log(texts.join(" "));
  setImmediate(() => session.close()); // it still answers the message of which it tells
});
await session.connect({ apiKey: "any", url: `${url}/v1/realtime?model=gpt-realtime` });
const audio = await readFile(file);
session.sendAudio(audio.buffer.slice(audio.byteOffset, audio.byteOffset + audio.byteLength), { commit: true });
