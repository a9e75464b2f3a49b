/**
 * Loads `node:ffi`, or says why it cannot be had. Nothing here throws, so that a module graph which
 * contains the native backend can be imported on any platform; the choice of backend is made later,
 * from the reason string.
 *
 * The module is experimental and says so once per thread. That one warning is dropped (it would stand
 * in front of every operator's log), every other warning passes.
 */
import process from 'node:process';

export type Ffi = typeof import('node:ffi');

let loaded: Ffi | string | undefined;

/** The module, or the reason for its absence. Asked once, then remembered for this thread. */
export function loadFfi(): Ffi | string {
  loaded ??= load();
  return loaded;
}

function load(): Ffi | string {
  if (process.platform !== 'linux') return `platform is ${process.platform}, not linux`;
  if (process.arch !== 'x64' && process.arch !== 'arm64')
    return `no layouts for architecture ${process.arch}`;
  const emitWarning = process.emitWarning;
  process.emitWarning = dropFfiWarning(emitWarning) as typeof process.emitWarning;
  try {
    const ffi = process.getBuiltinModule('node:ffi') as Ffi | undefined;
    if (!ffi) return `node:ffi is not part of Node ${process.versions.node} as started`;
    ffi.getRawPointer(new Uint8Array(8)); // under --permission the module loads and every call throws
    return ffi;
  } catch (error) {
    return `node:ffi cannot be used: ${(error as Error).message}`;
  } finally {
    process.emitWarning = emitWarning;
  }
}

function dropFfiWarning(pass: (...args: never[]) => void) {
  return (...args: unknown[]): void => {
    const [message, type] = args;
    if (type === 'ExperimentalWarning' && String(message).startsWith('FFI ')) return;
    Reflect.apply(pass, process, args);
  };
}
