// Read a DICOM Segmentation as OHIF does, by @cornerstonejs/adapters.
//
//   node read_seg.mjs NODE_MODULES SEG SOURCE_FILE...  ->  JSON on standard output:
//   {images: [[SOPInstanceUID, frame], ...], layers: [[base64 of the uint8 pixels of an image, ...], ...],
//    segments: {number: label}, warnings: [...]}
//
// The source files stand in the order of a stack in the viewer; all frames of a multi-frame file belong to it.

import { bytesOf, openStack, warnings } from './stack.mjs';

const [modules, segPath, ...sourcePaths] = process.argv.slice(2);
const { adapters, images, imageIds, metadataProvider } = await openStack(modules, sourcePaths);

const { labelMapImages, segMetadata } = await adapters.adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(
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
