#include "base/size.h"
#include "base/status.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool rm_size_parse(const char *text, size_t n, uint64_t *out)
{
    static const struct { const char *suffix; double factor; } units[] = { { "", 1 },        { "K", 1e3 },     { "M", 1e6 },      { "G", 1e9 },
                                                                           { "Ki", 1024.0 }, { "Mi", 0x1p20 }, { "Gi", 0x1p30 } };
    char word[40], *unit;
    if (n == 0 || n >= sizeof word || !isdigit((unsigned char)text[0])) return false;
    memcpy(word, text, n);
    word[n] = '\0';
    const double v = strtod(word, &unit);
    for (size_t i = 0; i < RM_COUNT(units); i++) {
        const double bytes = v * units[i].factor;
        if (strcmp(unit, units[i].suffix) != 0) continue;
        if (!(bytes >= 1 && bytes <= 0x1p62)) return false;
        *out = (uint64_t)bytes;
        return true;
    }
    return false;
}
