// For every SVG named on standard input: what resvg understands it to be, as one JSON line {"file", "svg"}.
// Everything is given a stroke and no fill, so that resvg keeps what a plotter draws.
import { readFileSync } from "node:fs";
import { Resvg } from "@resvg/resvg-js";

for (const file of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const svg = readFileSync(file, "utf8");
  try {
    console.log(JSON.stringify({ file, svg: new Resvg(svg).toString() }));
  } catch (error) {
    console.log(JSON.stringify({ file, error: String(error) }));
  }
}
