/** The list of causes is part of the shared record: see shared/cause.ts. */
export * from '../shared/cause.ts';
