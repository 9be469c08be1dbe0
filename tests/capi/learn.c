/* A graph learns a text, forgets it, is saved; and what must not harm the library there.
 *
 *     learn MODEL FOLDER [TRANSFORMER]
 *
 * Leaves FOLDER/taught.bril: the model with one record named "letters". */
#include "expect.h"

#include <stdlib.h>

static const char *const TEXTS[2] = {
    "acegikacegikacegikbdfhjlbdfhjlacegikacegikacegikbdfhjlbdfhjl",
    "acegikacegikacegikbdfhjlbdfhjlacegikacegikacegikbdfhjlbdfhjl",
};

struct steps {
    uint64_t calls, stop_at;
};

static int32_t on_step(void *user, const brillm_progress *progress) {
    struct steps *steps = user;
    steps->calls++;
    EXPECT(progress->struct_size == sizeof *progress);
    EXPECT(progress->step == steps->calls && progress->step <= progress->steps);
    EXPECT(progress->nats > 0.0);
    return progress->step == steps->stop_at ? BRILLM_STOP : BRILLM_GO_ON;
}

static double perplexity(const brillm_model *model, const char *text) {
    brillm_session *session = NULL;
    brillm_score score = {.struct_size = sizeof score};
    EXPECT(brillm_session_new(model, NULL, &session, NULL) == BRILLM_OK);
    EXPECT(brillm_session_score_text(session, text, BRILLM_TERMINATED, &score, NULL) == BRILLM_OK);
    brillm_session_release(session);
    return score.perplexity;
}

/* The bytes of a file; NULL without it. */
static char *contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    EXPECT(bytes != NULL && fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

/* Whether a model, saved at `path`, has the bytes of another file. */
static int saved_as(const brillm_model *model, const char *path, const char *other) {
    EXPECT(brillm_model_save(model, path, NULL) == BRILLM_OK);
    size_t size = 0, expected = 0;
    char *bytes = contents(path, &size), *kept = contents(other, &expected);
    const int same = bytes != NULL && kept != NULL && size == expected && memcmp(bytes, kept, size) == 0;
    free(bytes);
    free(kept);
    return same;
}

static void learned_and_forgotten(const brillm_model *model, const char *model_path, const char *folder) {
    char path[4096], taught_path[4096];
    snprintf(path, sizeof path, "%s/learn.bril", folder);
    snprintf(taught_path, sizeof taught_path, "%s/taught.bril", folder);
    struct steps steps = {0, 0};
    const brillm_learn_options options = {.struct_size = sizeof options, .name = "letters", .passes = 3, .rate = 0.01};
    brillm_lesson lesson = {.struct_size = sizeof lesson};
    brillm_model *taught = NULL;
    EXPECT(brillm_model_learn(model, TEXTS, 2, &options, on_step, &steps, &taught, &lesson, NULL) == BRILLM_OK);
    EXPECT(steps.calls > 0 && lesson.tokens == 120 && lesson.new_nodes == 0 && lesson.trained_rows > 0);
    EXPECT(perplexity(taught, TEXTS[0]) < 0.9 * perplexity(model, TEXTS[0]));
    EXPECT(strstr(brillm_model_records(taught), "\"name\":\"letters\"") != NULL);
    EXPECT(strcmp(brillm_model_records(model), "[]") == 0);

    /* A second text; without a name it is numbered. The first model is as it was. */
    const uint32_t ids[6] = {0, 5, 0, 5, 0, 5};
    brillm_learn_options counts = {.struct_size = sizeof counts, .counts_only = 1, .passes = 9, .weight = 2};
    brillm_model *other = NULL, *both = NULL, *left = NULL;
    counts.ids = ids;
    counts.id_count = 6;
    EXPECT(brillm_model_learn(taught, NULL, 0, &counts, on_step, &steps, &other, &lesson, NULL) == BRILLM_OK);
    EXPECT(lesson.tokens == 6 && lesson.trained_rows == 0 && lesson.first_perplexity == 0.0);
    EXPECT(brillm_model_learn(other, TEXTS, 1, NULL, NULL, NULL, &both, NULL, NULL) == BRILLM_OK);
    EXPECT(strstr(brillm_model_records(other), "\"name\":\"text\"") != NULL);
    EXPECT(strstr(brillm_model_records(both), "\"name\":\"text-2\"") != NULL);
    EXPECT(saved_as(model, path, model_path));

    brillm_forgotten forgotten = {.struct_size = sizeof forgotten};
    EXPECT(brillm_model_forget(both, "3", &left, &forgotten, NULL) == BRILLM_OK);
    EXPECT(forgotten.restored_rows > 0 && forgotten.subtracted_rows == 0 && forgotten.kept_nodes == 0);
    EXPECT(brillm_model_save(other, taught_path, NULL) == BRILLM_OK && saved_as(left, path, taught_path));
    brillm_model_release(left);
    EXPECT(brillm_model_forget(other, "text", &left, NULL, NULL) == BRILLM_OK);
    EXPECT(brillm_model_save(taught, taught_path, NULL) == BRILLM_OK && saved_as(left, path, taught_path));
    brillm_model_release(left);
    EXPECT(brillm_model_forget(taught, "letters", &left, &forgotten, NULL) == BRILLM_OK);
    EXPECT(saved_as(left, path, model_path));
    brillm_model_release(left);

    /* Old text beside the new one changes what is trained. */
    const char *old = "abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc";
    const brillm_learn_options replay = {.struct_size = sizeof replay, .replay = &old, .replay_count = 1, .seed = 3};
    EXPECT(brillm_model_learn(model, TEXTS, 1, &replay, NULL, NULL, &left, NULL, NULL) == BRILLM_OK);
    char expected[64];
    snprintf(expected, sizeof expected, "\"replayed_tokens\":%u,", (unsigned)strlen(old));
    EXPECT(strstr(brillm_model_records(left), expected) != NULL);
    brillm_model_release(left);
    brillm_model_release(both);
    brillm_model_release(other);
    brillm_model_release(taught);
}

static void refused(const brillm_model *model, const char *folder) {
    brillm_model *none = NULL;
    struct steps steps = {0, 1};
    REFUSED(BRILLM_ERROR_CANCELLED,
            brillm_model_learn(model, TEXTS, 2, NULL, on_step, &steps, &none, NULL, &error), "interrupted");
    EXPECT(none == NULL && steps.calls == 1);
    REFUSED(BRILLM_ERROR_NULL, brillm_model_learn(NULL, TEXTS, 1, NULL, NULL, NULL, &none, NULL, &error), "model");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_learn(model, TEXTS, 1, NULL, NULL, NULL, NULL, NULL, &error), "out");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_learn(model, NULL, 1, NULL, NULL, NULL, &none, NULL, &error), "texts");
    const char *absent[2] = {"abc", NULL}, *invalid = "a\xff";
    REFUSED(BRILLM_ERROR_NULL, brillm_model_learn(model, absent, 2, NULL, NULL, NULL, &none, NULL, &error), "texts[1]");
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_learn(model, &invalid, 1, NULL, NULL, NULL, &none, NULL, &error), "byte 1");
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_learn(model, TEXTS, 0, NULL, NULL, NULL, &none, NULL, &error), "short");
    brillm_learn_options options = {.struct_size = sizeof options, .rate = -1.0};
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_learn(model, TEXTS, 1, &options, NULL, NULL, &none, NULL, &error), "rate");
    options = (brillm_learn_options){.struct_size = sizeof options, .weight = UINT64_MAX};
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_learn(model, TEXTS, 1, &options, NULL, NULL, &none, NULL, &error), "weight");
    options = (brillm_learn_options){.struct_size = sizeof options, .replay_count = 1};
    REFUSED(BRILLM_ERROR_NULL, brillm_model_learn(model, TEXTS, 1, &options, NULL, NULL, &none, NULL, &error), "replay");
    const uint32_t outside = 99;
    options = (brillm_learn_options){.struct_size = sizeof options, .ids = &outside, .id_count = 1};
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_learn(model, TEXTS, 1, &options, NULL, NULL, &none, NULL, &error), "99");
    options = (brillm_learn_options){.struct_size = 8};
    REFUSED(BRILLM_ERROR_INPUT,
            brillm_model_learn(model, TEXTS, 1, &options, NULL, NULL, &none, NULL, &error), "struct_size");
    brillm_lesson lesson = {.struct_size = 8};
    REFUSED(BRILLM_ERROR_INPUT,
            brillm_model_learn(model, TEXTS, 1, NULL, NULL, NULL, &none, &lesson, &error), "brillm_lesson");

    REFUSED(BRILLM_ERROR_NULL, brillm_model_forget(NULL, "1", &none, NULL, &error), "model");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_forget(model, NULL, &none, NULL, &error), "record");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_forget(model, "1", NULL, NULL, &error), "out");
    REFUSED(BRILLM_ERROR_INPUT, brillm_model_forget(model, "letters", &none, NULL, &error), "no text");
    EXPECT(strcmp(brillm_model_records(NULL), "[]") == 0);

    char path[4096];
    snprintf(path, sizeof path, "%s/absent/model.bril", folder);
    REFUSED(BRILLM_ERROR_IO, brillm_model_save(model, path, &error), "absent");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_save(NULL, path, &error), "model");
    REFUSED(BRILLM_ERROR_NULL, brillm_model_save(model, NULL, &error), "path");
    EXPECT(none == NULL);
}

static void of_a_transformer(const char *path) {
    brillm_model *model = NULL, *none = NULL;
    EXPECT(brillm_model_open(path, NULL, &model, NULL) == BRILLM_OK);
    REFUSED(BRILLM_ERROR_UNSUPPORTED,
            brillm_model_learn(model, TEXTS, 1, NULL, NULL, NULL, &none, NULL, &error), "graph");
    REFUSED(BRILLM_ERROR_UNSUPPORTED, brillm_model_forget(model, "1", &none, NULL, &error), "graph");
    REFUSED(BRILLM_ERROR_UNSUPPORTED, brillm_model_save(model, "none.bril", &error), "graph");
    EXPECT(none == NULL && strcmp(brillm_model_records(model), "[]") == 0);
    brillm_model_release(model);
}

int main(int count, char **arguments) {
    if (count < 3) {
        return 2;
    }
    brillm_model *model = NULL;
    EXPECT(brillm_model_open(arguments[1], NULL, &model, NULL) == BRILLM_OK);
    learned_and_forgotten(model, arguments[1], arguments[2]);
    refused(model, arguments[2]);
    if (count > 3) {
        of_a_transformer(arguments[3]);
    }
    brillm_model_release(model);
    printf("%d faults\n", faults);
    return faults == 0 ? 0 : 1;
}
