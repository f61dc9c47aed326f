// For every SVG named on standard input: resvg's picture of it, as one JSON line {"file", "width", "height", "rgba"}.
import { readFileSync } from "node:fs";
import { Resvg } from "@resvg/resvg-js";

for (const file of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const picture = new Resvg(readFileSync(file, "utf8"), { background: "white" }).render();
  const rgba = Buffer.from(picture.pixels).toString("base64");
  console.log(JSON.stringify({ file, width: picture.width, height: picture.height, rgba }));
}
