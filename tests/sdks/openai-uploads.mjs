// Whole recordings by OpenAI's client: prints the text, what its keywords changed, how many parts the stream had, and the
// names of the models.
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

const [url, , file] = process.argv.slice(2);
const client = new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 });
const { create } = client.audio.transcriptions;
const ask = (body) => create.call(client.audio.transcriptions, { model: "gpt-transcribe", ...body });

const { text } = await ask({ file: createReadStream(file) });
// A file comes before the other fields, as they stand here; a stream comes after them.
const named = await ask({ file: await toFile(await readFile(file), "a.flac"), keywords: ["RubOut"], prompt: "Names: SevenTy" });
const parts = [];
for await (const event of await ask({ file: createReadStream(file), stream: true })) parts.push(event.type);
const models = [];
for await (const { id } of client.models.list()) models.push(id);
const secret = await client.realtime.clientSecrets.create({ session: { type: "transcription" } });
console.log(JSON.stringify({ text, named: named.text, parts, models, secret: secret.value }));
