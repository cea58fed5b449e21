// Read a DICOM Segmentation as OHIF does, by @cornerstonejs/adapters.
//
//   node read_seg.mjs NODE_MODULES SEG SOURCE_FILE...  ->  JSON on standard output:
//   {images: [[SOPInstanceUID, frame], ...], layers: [[base64 of the uint8 pixels of an image, ...], ...],
//    segments: {number: label}, warnings: [...]}
//
// The source files stand in the order of a stack in the viewer; all frames of a multi-frame file belong to it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, segPath, ...sourcePaths] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(modules, path)).href);
const warnings = [];
for (const level of ['log', 'info', 'warn', 'error', 'debug']) {
  console[level] = (...words) => warnings.push(words.map(String).join(' '));
}

const bytesOf = (path) => {
  const data = readFileSync(path);
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
};
const only = (value) => (Array.isArray(value) ? value[0] : value);
const numbers = (value) => (value === undefined ? undefined : Array.from(value, Number));

function planesOf(dataset) {
  const groups = dataset.PerFrameFunctionalGroupsSequence;
  if (groups === undefined) return [dataset];
  const shared = only(dataset.SharedFunctionalGroupsSequence) ?? {};
  return [].concat(groups).map((group) => {
    const plane = { ...dataset };
    for (const name of ['PixelMeasuresSequence', 'PlaneOrientationSequence', 'PlanePositionSequence']) {
      Object.assign(plane, only(shared[name]), only(group[name]));
    }
    return plane;
  });
}

function describe(plane) {
  const orientation = numbers(plane.ImageOrientationPatient);
  const spacing = numbers(plane.PixelSpacing);
  const rows = Number(plane.Rows);
  const columns = Number(plane.Columns);
  return {
    instance: { ...plane, Rows: rows, Columns: columns, ImageOrientationPatient: orientation },
    generalImageModule: { sopInstanceUID: plane.SOPInstanceUID },
    generalSeriesModule: { seriesInstanceUID: plane.SeriesInstanceUID, modality: plane.Modality },
    imagePixelModule: {},
    imagePlaneModule: {
      rows,
      columns,
      rowCosines: orientation?.slice(0, 3),
      columnCosines: orientation?.slice(3, 6),
      imageOrientationPatient: orientation,
      imagePositionPatient: numbers(plane.ImagePositionPatient),
      pixelSpacing: spacing,
      rowPixelSpacing: spacing?.[0],
      columnPixelSpacing: spacing?.[1],
      frameOfReferenceUID: plane.FrameOfReferenceUID,
    },
  };
}

const { adaptersSEG } = await load('@cornerstonejs/adapters/dist/esm/index.js');
const { metaData } = await load('@cornerstonejs/core/dist/esm/index.js');
const { data } = (await load('dcmjs/build/dcmjs.es.js')).default;

const facts = new Map();
const images = [];
for (const path of sourcePaths) {
  const dataset = data.DicomMetaDictionary.naturalizeDataset(data.DicomMessage.readFile(bytesOf(path)).dict);
  planesOf(dataset).forEach((plane, index) => {
    images.push([plane.SOPInstanceUID, index + 1]);
    facts.set(`wadors:/instances/${plane.SOPInstanceUID}/frames/${index + 1}`, describe(plane));
  });
}
const imageIds = [...facts.keys()];
const metadataProvider = {
  get: (type, imageId) => facts.get(imageId)?.[type],
  addCustomMetadata: (imageId, type, metadata) => facts.set(imageId, { ...facts.get(imageId), [type]: metadata }),
};
metaData.addProvider((type, imageId) => metadataProvider.get(type, imageId), 1000);

const { labelMapImages, segMetadata } = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(
  imageIds,
  bytesOf(segPath),
  { metadataProvider, tolerance: 1e-3 },
);
const pixelsOf = (image) => Buffer.from(image.voxelManager?.getScalarData() ?? image.getPixelData()).toString('base64');
const segments = segMetadata.data.filter(Boolean).map((one) => [Number(one.SegmentNumber), one.SegmentLabel]);
const read = {
  images,
  layers: labelMapImages.map((layer) => layer.map(pixelsOf)),
  segments: Object.fromEntries(segments),
  warnings,
};
process.stdout.write(JSON.stringify(read), () => process.exit(0));
