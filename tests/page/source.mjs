/** Where the page's modules are: the folder that the tests name, which is that of the installed wheel. */
import { pathToFileURL } from "node:url";

const folder = process.env.PAGE_FOLDER ?? new URL("../../src/runnable_otel/page/static", import.meta.url).pathname;

export function load(path) {
  return import(pathToFileURL(`${folder}/${path}`).href);
}
