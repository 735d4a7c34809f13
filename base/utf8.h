/* UTF-8: text that other programs or the user gave need not be any, and our buffers cut where they are full; JSON and XML take nothing else. Pure; any thread. */
#ifndef RM_UTF8_H
#define RM_UTF8_H

/* Makes UTF-8 of `text`, in place and no longer than before: every byte that is part of no character becomes '?', a character that is cut at the end goes. */
void rm_utf8_clean(char *text);
#endif
