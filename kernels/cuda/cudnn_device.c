#include "kernels/cuda/cudnn_device.h"
#include "base/strbuf.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20 };

/* Reads a file; comment lines become empty ones, so that the parser's line numbers are the file's. */
static rm_status read_text(const char *path, char **out_text)
{
    char line[4096];
    rm_strbuf text = { 0 };
    FILE *f = fopen(path, "r");
    if (!f) return rm_fail_errno("cudnn: cannot read the description %s", path);
    bool start = true, comment = false; /* a long line comes in parts */
    while (text.n < MOST_BYTES && fgets(line, sizeof line, f)) {
        size_t n = strlen(line);
        bool end = n && line[n - 1] == '\n';
        if (start) comment = line[strspn(line, " \t")] == '#';
        rm_str_add(&text, !comment ? line : end ? "\n" : "");
        start = end;
    }
    rm_status st = ferror(f) ? rm_fail_errno("cudnn: cannot read the description %s", path) : RM_OK;
    fclose(f);
    if (st == RM_OK && text.n >= MOST_BYTES) st = rm_fail(RM_E_FORMAT, "%s: no description of a GPU: larger than %d bytes", path, MOST_BYTES);
    if (st != RM_OK) {
        rm_str_free(&text);
        return st;
    }
    *out_text = rm_str_take(&text);
    return *out_text ? RM_OK : rm_fail(RM_E_NOMEM, "cudnn: no memory for the description of a GPU");
}

/* What we say about a device ourselves; cuDNN checks the rest of the keys. */
static rm_status note_identity(rm_cudnn_device *dev, const char *where, json_t *j)
{
    const char *name = json_string_value(json_object_get(j, "deviceName"));
    const json_t *version = json_object_get(j, "deviceVer"), *sms = json_object_get(j, "multiProcessorCount"), *driver = json_object_get(j, "driverVer");
    if (!name || !json_is_integer(version) || !json_is_integer(sms))
        return rm_fail(RM_E_FORMAT, "%s: deviceName, deviceVer or multiProcessorCount is missing", where);
    snprintf(dev->name, sizeof dev->name, "%s", name);
    dev->sm = (int)(json_integer_value(version) / 10);
    dev->multiprocessors = (int)json_integer_value(sms);
    snprintf(dev->identity, sizeof dev->identity, "cuDNN %zu | driver %d | %s | sm_%d | %d multiprocessors", cudnnGetVersion(), (int)json_integer_value(driver),
             dev->name, dev->sm, dev->multiprocessors);
    for (char *p = dev->identity; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
    return RM_OK;
}

static rm_status give(rm_cudnn_device *dev, const char *path, const char *text)
{
    char words[1024];
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &dev->d));
    cudnnStatus_t st = cudnnBackendSetAttribute(dev->d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
    if (st == CUDNN_STATUS_SUCCESS) st = cudnnBackendFinalize(dev->d);
    if (st == CUDNN_STATUS_SUCCESS) return RM_OK;
    rm_cudnn_words(st, words, sizeof words);
    return rm_fail(RM_E_FORMAT, "%s: cuDNN does not take this description of a GPU: %s", path, words);
}

static rm_status describe(rm_cudnn_device *dev, const char *path, json_t *j)
{
    RM_TRY(note_identity(dev, path, j));
    char *text = json_dumps(j, JSON_COMPACT);
    if (!text) return rm_fail(RM_E_NOMEM, "cudnn: no memory for the description of a GPU");
    rm_status st = give(dev, path, text);
    free(text);
    return st;
}

rm_status rm_cudnn_device_read(const char *path, rm_cudnn_device **out_device)
{
    char *text = NULL;
    json_error_t e;
    RM_TRY(read_text(path, &text));
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (!json_is_object(j)) {
        json_decref(j);
        return rm_fail(RM_E_FORMAT, "%s: line %d: no description of a GPU: %s", path, j ? 1 : e.line, j ? "not a JSON object" : e.text);
    }
    rm_cudnn_device *dev = calloc(1, sizeof *dev);
    rm_status st = dev ? describe(dev, path, j) : rm_fail(RM_E_NOMEM, "cudnn: no memory for the description of a GPU");
    json_decref(j);
    if (st != RM_OK) {
        rm_cudnn_device_free(dev);
        return st;
    }
    dev->described = true;
    *out_device = dev;
    return RM_OK;
}

static rm_status ask(rm_cudnn_device *dev, int ordinal)
{
    const int32_t id = ordinal;
    char *text = NULL;
    RM_TRY(rm_cudnn_create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &dev->d));
    RM_TRY(rm_cudnn_check(cudnnBackendSetAttribute(dev->d, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &id), "ask for a GPU"));
    RM_TRY(rm_cudnn_check(cudnnBackendFinalize(dev->d), "ask a GPU what it is"));
    RM_TRY(rm_cudnn_device_json(dev, &text));
    json_t *j = json_loads(text, 0, NULL);
    free(text);
    rm_status st = note_identity(dev, "cudnn: description of this machine's GPU", j);
    json_decref(j);
    return st;
}

rm_status rm_cudnn_device_open(int ordinal, rm_cudnn_device **out_device)
{
    rm_cudnn_device *dev = calloc(1, sizeof *dev);
    rm_status st = dev ? ask(dev, ordinal) : rm_fail(RM_E_NOMEM, "cudnn: no memory for the description of a GPU");
    if (st != RM_OK) {
        rm_cudnn_device_free(dev);
        return st;
    }
    *out_device = dev;
    return RM_OK;
}

rm_status rm_cudnn_device_json(const rm_cudnn_device *dev, char **out_json)
{
    return rm_cudnn_text(dev->d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, "describe a GPU", out_json);
}

void rm_cudnn_device_free(rm_cudnn_device *dev)
{
    if (!dev) return;
    rm_cudnn_destroy(dev->d);
    free(dev);
}
