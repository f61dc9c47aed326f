// Plans paths with saxi's planner and prints how long the plan takes. Reads one JSON document on stdin:
// {"paths": [[[x_mm, y_mm], …], …], "repeat": 1,
//  "pen_down": {"max_velocity_mm_s", "acceleration_mm_s2", "cornering_mm"}, "pen_up": {the same},
//  "pen_lift_s", "pen_drop_s"}
"use strict";
const { Device, plan } = require("saxi/dist/server/planning.js");

const scale = Device.Axidraw.stepsPerMm; // saxi plans in units of its own
const tooling = (limits) => ({
  acceleration: limits.acceleration_mm_s2 * scale,
  maximumVelocity: limits.max_velocity_mm_s * scale,
  corneringFactor: limits.cornering_mm * scale,
});

const job = JSON.parse(require("fs").readFileSync(0, "utf8"));
const profile = {
  penDownProfile: tooling(job.pen_down),
  penUpProfile: tooling(job.pen_up),
  penUpPos: Device.Axidraw.penPctToPos(50),
  penDownPos: Device.Axidraw.penPctToPos(60),
  penDropDuration: job.pen_drop_s,
  penLiftDuration: job.pen_lift_s,
};
const paths = job.paths.map((path) => path.map(([x, y]) => ({ x: x * scale, y: y * scale })));
const segments = paths.reduce((sum, path) => sum + path.length - 1, 0);

let best = Infinity;
let made;
for (let turn = 0; turn < (job.repeat || 1); turn++) {
  const begun = process.hrtime.bigint();
  made = plan(paths, profile);
  made.duration();
  best = Math.min(best, Number(process.hrtime.bigint() - begun) / 1e9);
}
// For each path saxi's plan has travel, drop, stroke, lift; then the way home and one servo motion more.
const seconds = made.motions.map((motion) => motion.duration());
process.stdout.write(
  JSON.stringify({
    planned_s: made.duration(),
    strokes_s: seconds.filter((_, i) => i % 4 === 2 && i < 4 * paths.length),
    travels_s: seconds.filter((_, i) => i % 4 === 0),
    last_servo_s: seconds[seconds.length - 1],
    segments_per_s: segments / best,
  }),
);
