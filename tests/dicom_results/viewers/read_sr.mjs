// Read a structured report as OHIF does when it hydrates one, by @cornerstonejs/adapters.
//
//   node read_sr.mjs NODE_MODULES SR SOURCE_FILE...  ->  JSON on standard output:
//   {tools: {name: [{uid, frame, tracking, finding, points: [[x, y, z], ...], stats}, ...]}, warnings: [...]}

import { openStack, warnings } from './stack.mjs';

const [modules, srPath, ...sourcePaths] = process.argv.slice(2);
const { adapters, metaData, datasetOf, facts, images, imageIds } = await openStack(modules, sourcePaths);
// cornerstone's imageToWorldCoords multiplies steps along a row by rowPixelSpacing, which OHIF fills with the distance
// between rows: true for square pixels alone. Here they are given as the formula needs them.
for (const { imagePlaneModule: plane } of facts.values()) {
  [plane.rowPixelSpacing, plane.columnPixelSpacing] = [plane.pixelSpacing[1], plane.pixelSpacing[0]];
}
const byInstance = Object.fromEntries(images.map(([uid, frame], n) => [`${uid}:${frame}`, imageIds[n]]));
const { MeasurementReport } = adapters.adaptersSR.Cornerstone3D;
const state = MeasurementReport.generateToolState(datasetOf(srPath), byInstance, metaData, {});
const brief = ({ annotation, description, sopInstanceUid, TrackingUniqueIdentifier }) => ({
  uid: sopInstanceUid,
  frame: annotation.data.frameNumber,
  tracking: TrackingUniqueIdentifier,
  finding: description,
  points: annotation.data.handles.points,
  stats: Object.values(annotation.data.cachedStats)[0],
});
const tools = Object.fromEntries(Object.entries(state).map(([name, all]) => [name, all.map(brief)]));
process.stdout.write(JSON.stringify({ tools, warnings }), () => process.exit(0));
