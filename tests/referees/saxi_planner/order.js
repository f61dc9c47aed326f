// Sorts and joins paths as saxi does before it plans. Reads {"paths": [[[x_mm, y_mm], …], …], "join_mm"} on stdin and
// prints the paths.
"use strict";
const { merge, reorder } = require("optimize-paths");

const job = JSON.parse(require("fs").readFileSync(0, "utf8"));
const paths = job.paths.map((path) => path.map(([x, y]) => ({ x, y })));
const done = merge(reorder(paths), job.join_mm);
process.stdout.write(JSON.stringify(done.map((path) => path.map(({ x, y }) => [x, y]))));
