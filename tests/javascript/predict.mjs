// An exported network in onnxruntime-web: node predict.mjs model.onnx < input.json
// In:  {"shape": [N, M, T, V, 3], "joints": [...], "lengths": [...]}   Out: {"scores": [...], "probabilities": [...]}
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web/wasm";

ort.env.wasm.numThreads = 1;
const { shape, joints, lengths } = JSON.parse(readFileSync(0, "utf8"));
const session = await ort.InferenceSession.create(readFileSync(process.argv[2]));
const { scores, probabilities } = await session.run({
  joints: new ort.Tensor("float32", Float32Array.from(joints), shape),
  lengths: new ort.Tensor("int64", BigInt64Array.from(lengths, BigInt), [lengths.length]),
});
console.log(JSON.stringify({ scores: Array.from(scores.data), probabilities: Array.from(probabilities.data) }));
