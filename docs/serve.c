/* An exported classifier of images, used from C: no Python, only TensorFlow's C library.
 *
 *     kerastoolkit train digits-cnn --out runs/digits && kerastoolkit export runs/digits
 *     TF=$(python -c "import tensorflow; print(tensorflow.sysconfig.get_lib())")
 *     gcc -O2 -Wall -o serve docs/serve.c -I"$TF/include" -L"$TF" -Wl,-rpath,"$TF" \
 *         -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2
 *     ./serve runs/digits/saved_model digit.png
 *
 * The bytes of a JPEG, PNG, GIF or BMP file go in as they are. The label and a probability for each class come out, a line each.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tensorflow/c/c_api.h>

static void fail(const char *what, const char *why) {
  fprintf(stderr, "error: %s: %s\n", what, why);
  exit(1);
}

static void check(const TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* A piece of memory that belongs to somebody else. */
typedef struct {
  const uint8_t *data;
  size_t length;
} Bytes;

static uint64_t read_varint(Bytes *rest) {
  uint64_t value = 0;
  for (int shift = 0; rest->length > 0 && shift < 64; shift += 7) {
    uint8_t byte = *rest->data;
    rest->data++, rest->length--;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return value;
}

/* Takes the next field off a protocol buffer's message: its number, or 0 at the end. Only fields with a length have contents. */
static unsigned next_field(Bytes *rest, Bytes *contents) {
  *contents = (Bytes){NULL, 0};
  if (rest->length == 0) return 0;
  uint64_t key = read_varint(rest), skipped = 0;
  if ((key & 7) == 0) {
    read_varint(rest);
  } else {
    skipped = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : read_varint(rest);
    if (skipped > rest->length) fail("the saved model", "is damaged");
    *contents = (Bytes){rest->data, skipped};
  }
  rest->data += skipped, rest->length -= skipped;
  return (unsigned)(key >> 3);
}

/* The value that a map, a field of a message, has for a key; without a key the field itself. */
static Bytes find(Bytes message, unsigned field, const char *key) {
  Bytes contents;
  for (unsigned number; (number = next_field(&message, &contents)) != 0;) {
    if (number != field) continue;
    if (key == NULL) return contents;
    Bytes name = find(contents, 1, NULL);
    if (name.length == strlen(key) && memcmp(name.data, key, name.length) == 0) return find(contents, 2, NULL);
  }
  return (Bytes){NULL, 0};
}

enum { SIGNATURES = 5, INPUTS = 1, OUTPUTS = 2, NAME = 1 }; /* field numbers in TensorFlow's meta_graph.proto */

/* The place in the graph of an input or output that the signature "serving_default" names. */
static TF_Output find_tensor(TF_Graph *graph, const TF_Buffer *meta, unsigned side, const char *key) {
  Bytes signature = find((Bytes){meta->data, meta->length}, SIGNATURES, "serving_default");
  Bytes name = find(find(signature, side, key), NAME, NULL); /* operation:number */
  char text[1024];
  if (name.length == 0 || name.length >= sizeof text) fail(key, "the model has no such input or output");
  memcpy(text, name.data, name.length);
  text[name.length] = '\0';
  char *colon = strchr(text, ':');
  if (colon != NULL) *colon = '\0';
  TF_Output found = {TF_GraphOperationByName(graph, text), colon ? atoi(colon + 1) : 0};
  if (found.oper == NULL) fail(text, "the graph has no such operation");
  return found;
}

static Bytes read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail(path, "cannot be opened");
  if (fseek(file, 0, SEEK_END) != 0) fail(path, "cannot be read");
  long length = ftell(file);
  rewind(file);
  uint8_t *data = length > 0 ? malloc((size_t)length) : NULL;
  if (data == NULL || fread(data, 1, (size_t)length, file) != (size_t)length) fail(path, "cannot be read");
  fclose(file);
  return (Bytes){data, (size_t)length};
}

/* A tensor (1,) of one string, which the tensor owns until it is deleted. */
static TF_Tensor *string_tensor(Bytes contents) {
  const int64_t shape[] = {1};
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, shape, 1, sizeof(TF_TString));
  if (tensor == NULL) fail("the input", "no memory");
  TF_TString *string = TF_TensorData(tensor);
  TF_StringInit(string);
  TF_StringCopy(string, (const char *)contents.data, contents.length);
  return tensor;
}

int main(int count, char **arguments) {
  if (count != 3) {
    fprintf(stderr, "usage: %s SAVED_MODEL IMAGE\n", arguments[0]);
    return 2;
  }
  Bytes file = read_file(arguments[2]);

  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_Buffer *meta = TF_NewBuffer();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph, meta, status);
  check(status, arguments[1]);

  TF_Output input = find_tensor(graph, meta, INPUTS, "image");
  TF_Output outputs[] = {find_tensor(graph, meta, OUTPUTS, "label"), find_tensor(graph, meta, OUTPUTS, "probabilities")};
  TF_Tensor *image = string_tensor(file), *answers[2] = {NULL, NULL};
  TF_SessionRun(session, NULL, &input, &image, 1, outputs, answers, 2, NULL, 0, NULL, status);
  check(status, arguments[2]);
  if (TF_TensorType(answers[0]) != TF_STRING || TF_TensorElementCount(answers[0]) != 1 || TF_TensorType(answers[1]) != TF_FLOAT)
    fail(arguments[1], "is no classifier of images");

  const TF_TString *label = TF_TensorData(answers[0]);
  printf("label %.*s\n", (int)TF_StringGetSize(label), TF_StringGetDataPointer(label));
  const float *probabilities = TF_TensorData(answers[1]);
  for (int64_t i = 0; i < TF_TensorElementCount(answers[1]); i++) printf("probability %.7f\n", probabilities[i]);

  for (int i = 0; i < 2; i++) TF_DeleteTensor(answers[i]);
  TF_DeleteTensor(image);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteBuffer(meta);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  free((void *)file.data);
  return 0;
}
