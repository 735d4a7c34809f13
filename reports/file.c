#include "reports/file.h"
#include <stdio.h>
#include <unistd.h>

rm_status rp_write_whole(const char *dir, const char *name, const rm_strbuf *text)
{
    rm_strbuf path = { 0 }, temporary = { 0 };
    rm_str_addf(&path, "%s/%s", dir, name);
    rm_str_addf(&temporary, "%s/%s.%ld.tmp", dir, name, (long)getpid());
    rm_status st = RM_OK;
    if (path.failed || temporary.failed) {
        st = rm_fail(RM_E_NOMEM, "%s/%s: out of memory", dir, name);
        goto out;
    }
    FILE *f = fopen(temporary.text, "w");
    if (!f) {
        st = rm_fail_errno("cannot write %s", temporary.text);
        goto out;
    }
    bool bad = fwrite(text->text, 1, text->n, f) != text->n || fflush(f) || fsync(fileno(f));
    if (bad) st = rm_fail_errno("cannot write %s", path.text);
    if (fclose(f) && st == RM_OK) st = rm_fail_errno("cannot write %s", path.text);
    if (st == RM_OK && rename(temporary.text, path.text)) st = rm_fail_errno("cannot put %s in place", path.text);
    if (st != RM_OK) unlink(temporary.text);
out:
    rm_str_free(&path);
    rm_str_free(&temporary);
    return st;
}
