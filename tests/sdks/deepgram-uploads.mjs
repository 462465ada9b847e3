// Whole recordings by Deepgram's client: prints the text.
import { createReadStream } from "node:fs";
import { DeepgramClient } from "@deepgram/sdk";

const [url, , file] = process.argv.slice(2);
const environment = { base: url, production: url, agent: url, agentRest: url };
const client = new DeepgramClient({ apiKey: "any", environment });
const options = { model: "nova-3", punctuate: true, keyterm: ["RubOut", "SevenTy"] };
const { results } = await client.listen.v1.media.transcribeFile(createReadStream(file), options);
console.log(JSON.stringify({ text: results.channels[0].alternatives[0].transcript }));
