/** What a wrong variable ends the start with: the text names it, its value and what is allowed. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  readonly code = 'HOLDFAST_CONFIG';
}

export function wrong(name: string, value: string, allowed: string): ConfigError {
  return new ConfigError(`HOLDFAST_${name}=${value}: allowed is ${allowed}`);
}
