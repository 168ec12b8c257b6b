// Pictures on their way to the server: photographs are made smaller first, the network sees a few hundred pixels anyway.
const LONGEST_SIDE = 1024;

export async function shrink(file) {
  const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  return encode(picture, picture.width, picture.height);
}

export async function startCamera(video) {
  if (!navigator.mediaDevices) throw new Error("browsers give it to https and localhost only");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
  video.srcObject = stream;
  video.hidden = false;
  await video.play();
  return stream;
}

export function stopCamera(stream, video) {
  stream.getTracks().forEach((track) => track.stop());
  video.hidden = true;
  return null;
}

export function grab(video) {
  return encode(video, video.videoWidth, video.videoHeight);
}

function encode(source, width, height) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
}
