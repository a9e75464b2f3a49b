/** What a peer sent, on its way to a terminal: without control characters, which could do there as they like. */
export const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');
