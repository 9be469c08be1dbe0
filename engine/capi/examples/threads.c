/* Ten threads on one model, a session each, say what one thread says: threads MODEL PROMPT */
#include "brillm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 10

struct work {
    const brillm_model *model;
    const char *prompt;
    uint64_t seed;
    char *text;
};

/* The text of a seed, for the caller to free; NULL after an error. */
static char *speak(const brillm_model *model, const char *prompt, uint64_t seed) {
    brillm_parameters parameters = {.struct_size = sizeof parameters, .tokens = 12, .temperature = 1.0, .seed = seed};
    brillm_session *session = NULL;
    brillm_error *error = NULL;
    char *copy = NULL;
    if (brillm_session_new(model, &parameters, &session, &error) == BRILLM_OK &&
        brillm_session_generate(session, prompt, BRILLM_TERMINATED, NULL, NULL, NULL, &error) == BRILLM_OK) {
        size_t length = 0;
        const char *text = brillm_session_text(session, &length);
        copy = malloc(length + 1);
        if (copy != NULL) {
            memcpy(copy, text, length + 1);
        }
    } else {
        fprintf(stderr, "error: %s\n", brillm_error_message(error));
        brillm_error_free(error);
    }
    brillm_session_release(session);
    return copy;
}

static void *run(void *argument) {
    struct work *work = argument;
    work->text = speak(work->model, work->prompt, work->seed);
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: %s MODEL PROMPT\n", arguments[0]);
        return 2;
    }
    brillm_error *error = NULL;
    brillm_model *model = NULL;
    if (brillm_model_open(arguments[1], NULL, &model, &error) != BRILLM_OK) {
        fprintf(stderr, "error: %s\n", brillm_error_message(error));
        brillm_error_free(error);
        return 1;
    }
    struct work works[THREADS];
    pthread_t threads[THREADS];
    for (int index = 0; index < THREADS; index++) {
        works[index] = (struct work){model, arguments[2], (uint64_t)index, NULL};
        if (pthread_create(&threads[index], NULL, run, &works[index]) != 0) {
            return 1;
        }
    }
    int different = 0;
    for (int index = 0; index < THREADS; index++) {
        pthread_join(threads[index], NULL);
        char *alone = speak(model, arguments[2], (uint64_t)index);
        if (alone == NULL || works[index].text == NULL || strcmp(alone, works[index].text) != 0) {
            different++;
        }
        printf("%d:%s\n", index, alone == NULL ? "" : alone);
        free(alone);
        free(works[index].text);
    }
    printf("%d of %d differ\n", different, THREADS);
    brillm_model_release(model);
    return different == 0 ? 0 : 1;
}
