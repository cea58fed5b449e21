// The source images of a DICOM object as OHIF hands them to @cornerstonejs/adapters: facts by image id.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

export const warnings = [];
for (const level of ['log', 'info', 'warn', 'error', 'debug']) {
  console[level] = (...words) => warnings.push(words.map(String).join(' '));
}

export const bytesOf = (path) => {
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

/** Load the packages of NODE_MODULES and read the source files, in the order of a stack. */
export async function openStack(modules, sourcePaths) {
  const load = (path) => import(pathToFileURL(join(modules, path)).href);
  const adapters = await load('@cornerstonejs/adapters/dist/esm/index.js');
  const { metaData } = await load('@cornerstonejs/core/dist/esm/index.js');
  const { data } = (await load('dcmjs/build/dcmjs.es.js')).default;
  const datasetOf = (path) => data.DicomMetaDictionary.naturalizeDataset(data.DicomMessage.readFile(bytesOf(path)).dict);
  const facts = new Map();
  const images = [];
  for (const path of sourcePaths) {
    const dataset = datasetOf(path);
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
  return { adapters, metaData, datasetOf, facts, images, imageIds, metadataProvider };
}
