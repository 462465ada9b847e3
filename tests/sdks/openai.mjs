// Realtime transcription by OpenAI's client, which wants TLS; prints each final text as a line.
import { readFile } from "node:fs/promises";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const [url, , file] = process.argv.slice(2);
const client = new OpenAI({ apiKey: "any", baseURL: `${url.replace("ws", "http")}/v1` });
const realtime = await OpenAIRealtimeWS.create(client, { model: "gpt-realtime" });
await new Promise((resolve) => realtime.socket.once("open", resolve));
realtime.on("error", (error) => {
  throw error;
});
realtime.on("event", (event) => {
  if (event.type === "conversation.item.input_audio_transcription.completed") {
    console.log(event.transcript);
    realtime.close();
  }
});
realtime.send({
  type: "session.update",
  session: { type: "transcription", audio: { input: { format: { type: "audio/pcm", rate: 24000 }, turn_detection: null } } },
});
realtime.send({ type: "input_audio_buffer.append", audio: (await readFile(file)).toString("base64") });
realtime.send({ type: "input_audio_buffer.commit" });
